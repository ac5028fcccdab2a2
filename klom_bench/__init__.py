"""KLOM: does an unlearning method really forget? A pytest plugin and the library below it.

Public names are resolved on first use, because every pytest run of an environment imports
this package and must not pay for NumPy and torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from klom_bench.methods.per_model import per_model as per_model
    from klom_bench.metrics.klom import klom as klom
    from klom_bench.metrics.margins import margins as margins

_HOME = {
    "klom": "klom_bench.metrics.klom",
    "margins": "klom_bench.metrics.margins",
    "per_model": "klom_bench.methods.per_model",
}
__all__ = ["klom", "margins", "per_model"]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'klom_bench' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
