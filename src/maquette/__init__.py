"""Maquette: a recipe goes in, a bundle comes out.

>>> import maquette
>>> run = maquette.train("configs/iris.yaml", ["training.epochs=5"])
>>> bundle = maquette.load(run.bundle)
>>> bundle.predict([[5.1, 3.5, 1.4, 0.2]])[0]["prediction"]
'setosa'

The names below are imported when first used: `import maquette` itself is instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maquette.bundle import Bundle
    from maquette.lifecycle import Run, evaluate, load, train

__version__ = "0.1.0"
__all__ = ["Bundle", "Run", "__version__", "evaluate", "load", "train"]

_HOME = {
    "Bundle": "maquette.bundle",
    **dict.fromkeys(("Run", "evaluate", "load", "train"), "maquette.lifecycle"),
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'maquette' has no attribute {name!r}")
