"""The two ends of the scale: leave the model as it is, or train afresh."""

from collections.abc import Iterator

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.points import Points
from klom_bench.methods.method import method
from klom_bench.tasks.task import Task


@method(changes_nothing=True)
def do_nothing(model: Ensemble, forget: Points, retain: Points) -> Iterator[None]:
    """The original, unchanged: what a failure to forget scores.

    Paper: none, a baseline.
    Code: none needed.
    Costs: 0.
    Sees: nothing.
    """
    yield


@method(retrains=True)
def retrain(model: Ensemble, forget: Points, retain: Points, *, task: Task) -> Iterator[None]:
    """Train afresh on R by the task's recipe: an independent second set of oracles.

    Its scores are what a perfect unlearner gets: they lie at the floor.
    Paper: none, a baseline.
    Code: none needed.
    Costs: recipe_epochs * R.
    Resets: all.
    Sees: retain.
    """
    model.load_states(model.fresh_states())
    yield from task.training(model, retain)
