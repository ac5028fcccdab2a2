"""KLOM: does an unlearning method really forget? A pytest plugin and the library below it.

What a test file, a conftest.py or a method needs is imported from here. Public names are resolved
on first use, because every pytest run of an environment imports this package and must not pay for
NumPy and torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from klom_bench.cell.record import Record as Record
    from klom_bench.cell.running import run as run
    from klom_bench.ensemble.losses import cross_entropy as cross_entropy
    from klom_bench.ensemble.losses import kl as kl
    from klom_bench.ensemble.outputs import Outputs as Outputs
    from klom_bench.ensemble.outputs import binary as binary
    from klom_bench.ensemble.outputs import classification as classification
    from klom_bench.ensemble.outputs import multi_label as multi_label
    from klom_bench.ensemble.outputs import regression as regression
    from klom_bench.ensemble.points import Points as Points
    from klom_bench.ensemble.training import Recipe as Recipe
    from klom_bench.ensemble.training import train as train
    from klom_bench.errors import KlomError as KlomError
    from klom_bench.methods.descent import Descent as Descent
    from klom_bench.methods.method import method as method
    from klom_bench.methods.per_model import per_model as per_model
    from klom_bench.methods.ranges import Choice as Choice
    from klom_bench.methods.ranges import Range as Range
    from klom_bench.metrics.klom import klom as klom
    from klom_bench.metrics.margins import margins as margins
    from klom_bench.models.mlp import mlp as mlp
    from klom_bench.report.table import table as table
    from klom_bench.tasks.data import Data as Data
    from klom_bench.tasks.task import Task as Task

_HOMES = {
    "cell.record": ("Record",),
    "cell.running": ("run",),
    "ensemble.losses": ("cross_entropy", "kl"),
    "ensemble.outputs": ("Outputs", "binary", "classification", "multi_label", "regression"),
    "ensemble.points": ("Points",),
    "ensemble.training": ("Recipe", "train"),
    "errors": ("KlomError",),
    "methods.descent": ("Descent",),
    "methods.method": ("method",),
    "methods.per_model": ("per_model",),
    "methods.ranges": ("Choice", "Range"),
    "metrics.klom": ("klom",),
    "metrics.margins": ("margins",),
    "models.mlp": ("mlp",),
    "report.table": ("table",),
    "tasks.data": ("Data",),
    "tasks.task": ("Task",),
}
_HOME = {name: f"klom_bench.{home}" for home, names in _HOMES.items() for name in names}
__all__ = [
    "Choice",
    "Data",
    "Descent",
    "KlomError",
    "Outputs",
    "Points",
    "Range",
    "Recipe",
    "Record",
    "Task",
    "binary",
    "classification",
    "cross_entropy",
    "kl",
    "klom",
    "margins",
    "method",
    "mlp",
    "multi_label",
    "per_model",
    "regression",
    "run",
    "table",
    "train",
]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'klom_bench' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
