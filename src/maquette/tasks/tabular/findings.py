"""What a reader should know about a table before training: facts for the report, and warnings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.data.cells import NUMBER
from maquette.tasks.base import Json
from maquette.tasks.tabular.samples import TableSamples

NUM_BINS = 20
NUM_TOP = 10
"""Categories and classes listed with their counts."""
ENOUGH_ROWS = 20
"""In fewer rows, all values being different says little about a column."""
IMBALANCE = 20
"""A class this many times rarer than the most frequent one is worth a warning."""
DECIMAL_COMMA = re.compile(r"-?\d+(,\d+)?")
ID_NAME = re.compile(r"(^|[_\W])(id|uuid|guid|key|index|idx|no|nr|num|number)$|[a-z]I[dD]$", re.I)


def summarise(samples: TableSamples) -> Json:
    """Describe every column: kind, missing cells, range and histogram, or most frequent values."""
    return {
        "rows": len(samples),
        "columns": [_column(samples, name) for name in samples.columns],
        "target": {"name": samples.target_name} | _target(samples.target),
    }


def identifier_reason(values: NDArray[Any], name: str) -> str | None:
    """Say why a column looks like an identifier or free text, or return None."""
    observed = values[~_is_missing(values)]
    num_rows = len(observed)
    is_text = values.dtype == object
    is_whole = values.dtype.kind == "f" and bool((observed == np.rint(observed)).all())
    if num_rows < ENOUGH_ROWS or not (is_text or is_whole):
        return None
    distinct = len(set(observed.tolist()))
    if is_text and distinct == num_rows:
        return "every row has another text"
    if is_text and distinct > num_rows / 2:
        return f"{distinct} different texts in {num_rows} rows"
    if is_whole and (np.diff(observed) == 1).all():
        return "it counts the rows"
    if is_whole and ID_NAME.search(name.strip()) and distinct > num_rows / 2:
        return "its name and its whole numbers look like an identifier"
    return None


def has_decimal_commas(values: NDArray[Any]) -> bool:
    """Whether a text column holds numbers such as 1,5 (the first hundred are looked at)."""
    texts = [value for value in values[:100].tolist() if isinstance(value, str)]
    return any("," in text for text in texts) and all(map(DECIMAL_COMMA.fullmatch, texts))


def find_warnings(samples: TableSamples) -> list[str]:
    """List what may be a mistake in the table, though it can be trained on."""
    columns = {name: column_values(samples, name) for name in samples.columns}
    found = [text for name, values in columns.items() for text in _column_warnings(name, values)]
    found += _date_warnings(samples)
    for name, values in columns.items():
        if tells_target(values, samples.target):
            found.append(
                f"column {name!r} tells the target exactly; if it is not known at prediction time, "
                "add it to ignore_columns"
            )
    return found + list(_class_warnings(samples))


def copy_warnings(samples: TableSamples, parts: Mapping[str, NDArray[np.int64]]) -> list[str]:
    """Warn of rows that are equal in every cell and fall in different splits."""
    keys = _row_keys(samples)
    _, groups, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    copies = int((sizes - 1).sum())
    if copies == 0:
        return []
    trained = np.isin(groups, groups[parts["train"]])
    leaked = sum(int(trained[parts[name]].sum()) for name in ("valid", "test"))
    what = "1 row is a copy of another" if copies == 1 else f"{copies} rows are copies of others"
    return [what + (f"; {leaked} of valid and test are also in train" if leaked else "")]


def column_values(samples: TableSamples, name: str) -> NDArray[Any]:
    """(n,) cells of a column, of whichever kind."""
    kinds: tuple[Mapping[str, NDArray[Any]], ...]
    kinds = (samples.numbers, samples.dates, samples.categories)
    return next(kind[name] for kind in kinds if name in kind)


def tells_target(values: NDArray[Any], target: NDArray[Any]) -> bool:
    """Whether a column is the target under another name: equal, one to one, or a linear image."""
    if _is_missing(values).any() or len(target) < ENOUGH_ROWS:
        return False
    if target.dtype == object:
        num_classes = len(set(target.tolist()))
        # Pairing cells with classes is slow in Python; most columns have other numbers of values.
        if len(set(values[: 10 * ENOUGH_ROWS].tolist())) > num_classes:
            return False
        pairs = set(zip(values.tolist(), target.tolist(), strict=True))
        return len(pairs) == num_classes == len({value for value, _ in pairs})
    if values.dtype.kind != "f" or values.min() == values.max() or target.min() == target.max():
        return False
    return bool(abs(np.corrcoef(values, target)[0, 1]) > 1 - 1e-9)


def _column(samples: TableSamples, name: str) -> Json:
    values = column_values(samples, name)
    kind = {"O": "category", "M": "date"}.get(values.dtype.kind, "number")
    facts: Json = {"name": name, "kind": kind, "missing": int(_is_missing(values).sum())}
    return facts | (_counts(values) if kind == "category" else _range(values))


def _target(target: NDArray[Any]) -> Json:
    if target.dtype == object:
        return {"kind": "class", "counts": dict(sorted(Counter(target.tolist()).items()))}
    return {"kind": "number"} | _range(target)


def _counts(values: NDArray[np.object_]) -> Json:
    counts = Counter(value for value in values.tolist() if value is not None)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {"distinct": len(counts), "top": [[name, count] for name, count in ordered[:NUM_TOP]]}


def _range(values: NDArray[Any]) -> Json:
    """Quartiles, mean and histogram of numbers; of dates, as ISO 8601 text, without the mean."""
    observed = values[~_is_missing(values)]
    if not len(observed):
        return {}
    is_date = observed.dtype.kind == "M"
    numbers = observed.astype(np.int64).astype(np.float64) if is_date else observed
    counts, edges = np.histogram(numbers, bins=NUM_BINS)
    # np.quantile would import numpy.ma, which takes longer than checking a small table.
    places = np.linspace(0, len(numbers) - 1, 5)
    quartiles = np.interp(places, np.arange(len(numbers)), np.sort(numbers))

    def plain(numbers: NDArray[np.float64]) -> list[Any]:
        if is_date:
            return list(np.datetime_as_string(numbers.astype("datetime64[ms]"), unit="s").tolist())
        return list(numbers.tolist())

    names = ("min", "lower_quartile", "median", "upper_quartile", "max")
    facts: Json = dict(zip(names, plain(quartiles), strict=True))
    facts["histogram"] = {"edges": plain(edges), "counts": counts.tolist()}
    return facts if is_date else facts | {"mean": float(numbers.mean())}


def _column_warnings(name: str, values: NDArray[Any]) -> Iterator[str]:
    missing = _is_missing(values)
    observed = values[~missing]
    if not len(observed):
        yield f"column {name!r} has no value in any row; the network will not see it"
        return
    if missing.mean() > 0.5:
        yield f"column {name!r} has no value in {missing.mean():.0%} of the rows"
    if (observed == observed[0]).all() and not missing.any():
        yield f"column {name!r} is {_shown(observed[0])} in every row; the network will not see it"
    elif has_decimal_commas(values):
        yield (
            f"column {name!r} holds numbers with a decimal comma, such as {observed[0]!r}, and is "
            "read as categories; write them with a point"
        )
    elif reason := identifier_reason(values, name):
        yield (
            f"column {name!r} looks like an identifier or free text ({reason}); add it to "
            "ignore_columns if it says nothing about the target"
        )
    if values.dtype == object:
        yield from _text_warnings(name, observed)


def _text_warnings(name: str, observed: NDArray[np.object_]) -> Iterator[str]:
    """Warn of numbers among the words of a column."""
    distinct = Counter(observed.tolist())
    words = [text for text in distinct if not re.fullmatch(NUMBER, text)]
    share = sum(distinct[word] for word in words) / len(observed)
    if words and share <= 0.5:
        yield (
            f"column {name!r} is read as categories, because {share:.0%} of its values are not "
            f"numbers, such as {words[0]!r}"
        )


def _date_warnings(samples: TableSamples) -> Iterator[str]:
    """Day first and month first look alike as long as no day is above 12."""
    for name, order in samples.date_orders.items():
        dates = samples.dates[name][~np.isnat(samples.dates[name])]
        days = (dates.astype("datetime64[D]") - dates.astype("datetime64[M]")).astype(int) + 1
        if order != "ymd" and len(days) and days.max() <= 12:
            first = "day" if order == "dmy" else "month"
            yield f"column {name!r} is read with the {first} first; YYYY-MM-DD would leave no doubt"


def _class_warnings(samples: TableSamples) -> Iterator[str]:
    if samples.target.dtype != object:
        return
    counts = Counter(samples.target.tolist()).most_common()
    (common, most), (rare, fewest) = counts[0], counts[-1]
    if most > IMBALANCE * fewest:
        yield (
            f"class {rare!r} has {fewest} rows and class {common!r} has {most}; "
            "training.class_weights: balanced gives rare classes more say"
        )
    alike: dict[str, list[str]] = {}
    for name, _ in counts:
        alike.setdefault(" ".join(name.lower().split()), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            yield f"classes {' and '.join(map(repr, names))} differ in case or spaces only"


def _row_keys(samples: TableSamples) -> NDArray[np.uint64]:
    """(n,) 64-bit keys; rows with equal cells and target have equal keys, others hardly ever."""
    keys = np.zeros(len(samples), dtype=np.uint64)
    columns = [column_values(samples, name) for name in samples.columns]
    for values in [*columns, samples.target]:
        if values.dtype == object:
            codes = np.array([hash(value) for value in values.tolist()], dtype=np.int64)
        else:
            codes = values.copy().view(np.int64)
        # Multiplying and folding (a 64-bit FNV step with a shift) keeps the order of columns.
        keys = (keys ^ codes.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def _is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    missing: NDArray[np.bool_]
    if values.dtype.kind in "fM":
        missing = np.isnan(values) if values.dtype.kind == "f" else np.isnat(values)
        return missing
    return np.array([value is None for value in values.tolist()], dtype=np.bool_)


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)
