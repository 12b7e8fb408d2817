"""A bundle as an MLflow model: the bundle, the code that loads it, its signature and an example.

`pack` makes one and `bundle_at` finds the bundle in it again. Everything is read from the bundle's
JSON files, so packing imports no torch; and nothing in the result is pickled.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import yaml

from maquette import __version__
from maquette.errors import BundleError
from maquette.files import cache_folder, write_folder_once

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec

ARTIFACT = "bundle"
"""Name of the artifact, in the packed model, that is the bundle."""


def read_manifest(bundle: Path) -> dict[str, Any]:
    """Read what a bundle says of itself.

    Raises:
        BundleError: `bundle` is not a bundle folder.
    """
    try:
        manifest: dict[str, Any] = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        manifest["bundle_id"], manifest["task"], manifest["classes"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BundleError(
            f"{bundle} is not a bundle: it has no bundle.json that Maquette wrote. "
            "Give the bundle folder of a run: runs/<run>/bundle."
        ) from None
    return manifest


def pack(bundle: Path, folder: Path, *, logged: LoggedModel) -> None:
    """Write the MLflow model of `bundle` into the new folder `folder`."""
    import mlflow.pyfunc
    from mlflow.models import Model

    manifest = read_manifest(bundle)
    mlflow.pyfunc.save_model(
        path=folder,
        python_model=Path(__file__).with_name("served_model.py"),
        artifacts={ARTIFACT: str(bundle.resolve())},
        signature=_signature(bundle, manifest),
        input_example=_example(bundle),
        pip_requirements=[f"maquette=={__version__}", f"mlflow=={version('mlflow')}"],
        mlflow_model=Model(
            artifact_path=logged.artifact_location,
            run_id=logged.source_run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
        ),
    )


def _signature(bundle: Path, manifest: dict[str, Any]) -> ModelSignature:
    """Say in MLflow's terms what goes in and what comes out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    classes = manifest["classes"]
    answer = ColSpec("double" if classes is None else "string", "prediction")
    probabilities = [ColSpec("double", f"probability_{name}") for name in classes or ()]
    outputs = Schema([answer, *probabilities])
    if manifest["task"] == "vision" or (manifest["task"] == "image_text" and classes):
        return ModelSignature(Schema([ColSpec("binary", "image")]), outputs)
    if manifest["task"] == "image_text":
        pair = Schema([ColSpec("binary", "image"), ColSpec("string", "text")])
        return ModelSignature(pair, outputs)
    schema = json.loads((bundle / "input_schema.json").read_text(encoding="utf-8"))
    inputs = Schema([_column(name, rule) for name, rule in schema["properties"].items()])
    return ModelSignature(inputs, outputs)


def _column(name: str, rule: dict[str, Any]) -> ColSpec:
    """Turn one property of the JSON Schema into a column.

    Whole numbers become doubles: a column of them with a missing cell is one. All columns may be
    left out as far as MLflow is concerned; the bundle itself says which it needs, and better.
    """
    from mlflow.types import ColSpec

    kinds = rule.get("type", "string")
    is_number = {"number", "integer"} & ({kinds} if isinstance(kinds, str) else set(kinds))
    is_text = "string" in kinds
    return ColSpec("double" if is_number and not is_text else "string", name, required=False)


def _example(bundle: Path) -> pd.DataFrame:
    """Return the bundle's first probe, a real input, as the table of one row that MLflow takes."""
    import pandas as pd

    probe = json.loads((bundle / "probes.json").read_text(encoding="utf-8"))["inputs"][0]
    if "bytes" in probe:
        return pd.DataFrame({"image": [base64.b64decode(probe["bytes"])]})
    if "pair" in probe:
        image, text = probe["pair"]["image"]["bytes"], probe["pair"]["text"]
        return pd.DataFrame({"image": [base64.b64decode(image)], "text": [text]})
    return pd.DataFrame([probe["row"]])


def bundle_at(location: str, *, store: str, what: str) -> Path:
    """Return the bundle inside the packed model stored at `location`, as a local folder.

    Args:
        location: a folder's path or file address, or an address MLflow can download from.
        store: the tracking store's address.
        what: the name the reader knows it by.
    Raises:
        BundleError: no Maquette bundle is in there.
    """
    packed = _local_folder(location) or _downloaded(location, store)
    try:
        flavors = yaml.safe_load((packed / "MLmodel").read_text(encoding="utf-8"))["flavors"]
        bundle = packed / str(flavors["python_function"]["artifacts"][ARTIFACT]["path"])
        read_manifest(bundle)
    except (OSError, yaml.YAMLError, KeyError, TypeError, BundleError):
        raise BundleError(
            f"{what} is not a bundle: {packed} holds none. It was registered by another tool, or "
            "its files were removed; `maquette register RUN_FOLDER` registers a bundle."
        ) from None
    return bundle


def _local_folder(location: str) -> Path | None:
    """Return the folder that a path or a file address names; None for anything remote."""
    address = urlsplit(location)
    if address.scheme == "file":
        return Path(url2pathname(address.path))
    is_path = len(address.scheme) <= 1  # one letter is a Windows drive
    return Path(location) if is_path else None


def _downloaded(location: str, store: str) -> Path:
    """Download a model once; its address is unique, so it names the folder in the cache."""
    from mlflow.artifacts import download_artifacts

    def fill(folder: Path) -> None:
        download_artifacts(location, dst_path=str(folder), tracking_uri=store)

    key = hashlib.sha256(f"{store} {location}".encode()).hexdigest()[:16]
    folder = write_folder_once(cache_folder("models") / key, fill)
    return next((path.parent for path in folder.rglob("MLmodel")), folder)
