"""Start a network from a torchvision or timm weight file: fit what fits, report the rest.

`load_weights` is the way in; `weight_files.py` reads and renames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from maquette.errors import UsageError
from maquette.tasks.tensor_files import refuse_not_finite, some
from maquette.tasks.vision.models import MODELS, VisionModel
from maquette.tasks.vision.weight_files import read_weights


@dataclass(frozen=True, kw_only=True)
class WeightReport:
    """What became of every key of the file and of the network."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    """Keys of the network that the file does not have."""
    unexpected: tuple[str, ...]
    """Keys of the file that the network does not have."""
    shape_mismatched: tuple[str, ...]
    """Keys of both whose shapes differ: a head for other classes, a stem of another kernel."""
    adapted: tuple[str, ...]
    """Loaded after a change of the channel count."""

    def __str__(self) -> str:
        """One line per kind of key, for the log of a run."""
        kinds = {
            "adapted to the channels": self.adapted,
            "new, because the shape differs": self.shape_mismatched,
            "new, because not in the file": self.missing,
            "not used": self.unexpected,
        }
        listed = [f"{kind}: {', '.join(keys)}" for kind, keys in kinds.items() if keys]
        return "\n".join([f"loaded {len(self.loaded)} tensors", *listed])


def load_weights(model: VisionModel, path: str | Path) -> WeightReport:
    """Copy the weights of a file into `model` and return what was and was not used.

    The head stays random when the classes differ in number, and the stem when its kernel does (the
    small stem of a ResNet); a stem for another number of channels is adapted. Everything else must
    be there, so a network is never silently half random.

    Args:
        path: a .safetensors, .pt or .pth file with torchvision's or timm's names, plain or in a
            training checkpoint.
    Raises:
        UsageError: there is no such file, or it belongs to another network.
        DataError: the file is not a weight file, is damaged, or holds code, NaN or infinity.
    """
    path = Path(path)
    wanted = model.state_dict()
    given = read_weights(path)
    adapted = _adapt_stem(given, wanted, stem_key=f"{model.stem_key}.weight")

    shared = [key for key in wanted if key in given]
    fitting = [key for key in shared if given[key].shape == wanted[key].shape]
    report = WeightReport(
        loaded=tuple(fitting),
        missing=tuple(key for key in wanted if key not in given),
        unexpected=tuple(key for key in given if key not in wanted),
        shape_mismatched=tuple(key for key in shared if given[key].shape != wanted[key].shape),
        adapted=adapted,
    )
    _refuse_other_network(model, given, wanted, report, path)
    refuse_not_finite({key: given[key] for key in fitting}, path)
    model.load_state_dict({key: given[key] for key in fitting}, strict=False)
    return report


def _adapt_stem(
    given: dict[str, Tensor], wanted: Mapping[str, Tensor], *, stem_key: str
) -> tuple[str, ...]:
    """Fit an RGB stem (D, 3, k, k) in `given` to the network's channels; return what changed."""
    stem = given.get(stem_key)
    if stem is None or stem.ndim != 4:
        return ()
    channels = wanted[stem_key].shape[1]
    if stem.shape[1] != 3 or channels == 3 or stem.shape[2:] != wanted[stem_key].shape[2:]:
        return ()
    given[stem_key] = adapt_channels(stem, channels)
    return (stem_key,)


def adapt_channels(kernels: Tensor, channels: int) -> Tensor:
    """Turn RGB kernels (D, 3, k, k) into (D, channels, k, k) with answers of the same size.

    One channel takes the sum, so a grey image gives what its RGB copy gave. More repeat R, G, B in
    turn, times 3 / channels (timm's rule).
    """
    kernels = kernels.float()
    if channels == 1:
        return kernels.sum(dim=1, keepdim=True)
    repeated = kernels.repeat(1, -(-channels // 3), 1, 1)[:, :channels]
    return repeated * (3 / channels)


def _refuse_other_network(
    model: VisionModel,
    given: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    report: WeightReport,
    path: Path,
) -> None:
    """Refuse a file unless only the head, a stem of another kernel, or a counter is not used."""
    stem = f"{model.stem_key}.weight"
    allowed = {key for key in {*given, *wanted} if key.startswith(f"{model.head_key}.")}
    if stem in report.shape_mismatched and _differs_in_kernel(given[stem], wanted[stem]):
        allowed.add(stem)
    problems = {
        "missing in the file": report.missing,
        "unknown to the network": report.unexpected,
        "of another shape": tuple(
            f"{key} {tuple(given[key].shape)} instead of {tuple(wanted[key].shape)}"
            for key in report.shape_mismatched
            if key not in allowed
        ),
    }
    listed = [
        f"{len(bad)} {kind}: {some(bad)}"
        for kind, keys in problems.items()
        if (bad := [k for k in keys if k not in allowed and not _is_counter(k)])
    ]
    if listed:
        raise UsageError(
            f"The weights in {path} do not fit this network; nothing was loaded. "
            f"{'; '.join(listed)}. {_best_fit(given)}"
        )


def _differs_in_kernel(given: Tensor, wanted: Tensor) -> bool:
    return given.shape[0] == wanted.shape[0] and given.shape[2:] != wanted.shape[2:]


def _is_counter(key: str) -> bool:
    """Step counts of norms and of weight averaging: no numbers that a network computes with."""
    return key.endswith("num_batches_tracked") or key == "n_averaged"


def _best_fit(given: Mapping[str, Tensor]) -> str:
    """Name the network of `MODELS` whose keys and shapes are most like the file's."""
    shares = {name: _share_in_common(given, name) for name in MODELS}
    best = max(shares, key=lambda name: shares[name])
    width = " with base_width: 64" if best.startswith("resnet") else ""
    if shares[best] == 1:
        article = "an" if best.startswith("e") else "a"
        return f"It holds {article} {best}: set model.name: {best}{width}."
    if shares[best] > 0.5:
        return f"The nearest network is {best}{width}; {shares[best]:.0%} of the keys fit it."
    return f"It fits none of {', '.join(MODELS)}."


def _share_in_common(given: Mapping[str, Tensor], name: str) -> float:
    """|A ∩ B| / |A ∪ B| over (key, shape) of the file and the network, the head left out."""
    with torch.device("meta"):
        model = MODELS[name](num_classes=1)
    shapes = [
        {
            (key, tuple(value.shape))
            for key, value in state.items()
            if not _is_counter(key) and not key.startswith(f"{model.head_key}.")
        }
        for state in (given, model.state_dict())
    ]
    return len(shapes[0] & shapes[1]) / len(shapes[0] | shapes[1])
