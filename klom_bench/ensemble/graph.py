"""A step of training as a CUDA graph: captured once, replayed for every step of every member.

Launching a step of a ResNet-9 takes the host longer than a GPU needs for it; a graph is launched
at once. It reads and writes memory of its own, to which models come and from which they go.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.inputs import is_dataset, tensors
from klom_bench.ensemble.optimizers import ForeachSGD
from klom_bench.ensemble.step import Step
from klom_bench.errors import warn

WORTH = 100
"""Steps: capturing takes about as long as ten."""
KEPT = 2
"""Graphs of a process; each holds a pack of models."""
NEAR = 0.01
"""Of what a step changes: further from a plain step a replayed one may not be."""
_captured: "OrderedDict[Hashable, Graph | None]" = OrderedDict()


class Graph:
    """The step of a model like this one, with batches of this size, on memory of its own."""

    def __init__(self, step: Step, rows: Tensor, drawn: Tensor | None) -> None:
        self.step = Step(step.model.clone(), step.points, step.recipe)
        self.rows, self.drawn = rows.clone(), None if drawn is None else drawn.clone()
        self.lr = torch.zeros((), device=rows.device)
        self.graph = torch.cuda.CUDAGraph()
        self._capture()
        self._refuse_other_steps(Step(step.model.clone(), step.points, step.recipe))

    def __call__(self, rows: Tensor, drawn: Tensor | None, lr: float) -> None:
        """As `Step`, of the model that is there."""
        self.rows.copy_(rows)
        if self.drawn is not None and drawn is not None:
            self.drawn.copy_(drawn)
        self.lr.fill_(lr)
        self.graph.replay()

    def rest(self) -> None:
        """Without momentum, as at the start of a training."""
        if isinstance(self.step.update, ForeachSGD):
            self.step.update.rest()

    def _capture(self) -> None:
        device = self.rows.device
        here, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        side.wait_stream(here)
        with torch.cuda.stream(side):  # libraries choose and load kernels, which no graph may
            for _ in range(3):
                self.step(self.rows, self.drawn, self.lr)
        here.wait_stream(side)
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.step(self.rows, self.drawn, self.lr)

    def _refuse_other_steps(self, plain: Step) -> None:
        """RuntimeError where a replayed step is not what a plain one is."""
        before = plain.model.clone()
        self.rest()
        copy_state(before, self.step.model)
        plain(self.rows, self.drawn, torch.full_like(self.lr, plain.recipe.lr))
        self(self.rows, self.drawn, plain.recipe.lr)
        each = (model.parameters() for model in (before, plain.model, self.step.model))
        for old, a, b in zip(*each, strict=True):
            if not (a - b).abs().max() <= NEAR * (a - old).abs().max() + 1e-7:
                raise RuntimeError("a replayed step is not that which it was captured from")


@contextmanager
def replayed(model: Ensemble, graph: Graph) -> Iterator[Graph]:
    """Steps of the model, which is where they lead it when this ends."""
    copy_state(model, graph.step.model)
    yield graph
    copy_state(graph.step.model, model)


@torch.no_grad()
def copy_state(source: Ensemble, target: Ensemble) -> None:
    """Parameters and buffers of one ensemble to those of another."""
    old, new = ([*model.network.state_dict().values()] for model in (target, source))
    torch._foreach_copy_(old, new)


def graph_of(step: Step, rows: Tensor, drawn: Tensor | None, steps: int) -> Graph | None:
    """A graph of this step for so many, or None where each is to be launched by itself.

    So it is on a CPU, with AdamW, for data that are read point by point, and where passes draw from
    the members' streams. Where capturing fails, a warning says why.
    """
    points, model = step.points, step.model
    plain = not isinstance(step.update, ForeachSGD) or model.draws or is_dataset(points.x)
    if plain or steps < WORTH:
        return None
    places = tuple(t.data_ptr() for t in (*tensors(points.x), points.y))
    trained = tuple(p.requires_grad for p in model.parameters())
    key = (model.architecture, model.outputs, model.way, step.recipe, rows.shape, places, trained)
    if key not in _captured:
        _captured[key] = _captured_from(step, rows, drawn)
        while len(_captured) > KEPT:
            _captured.popitem(last=False)
    _captured.move_to_end(key)
    return _captured[key]


def _captured_from(step: Step, rows: Tensor, drawn: Tensor | None) -> Graph | None:
    try:
        return Graph(step, rows, drawn)
    except RuntimeError as error:  # what CUDA and torch raise
        first = str(error).strip().partition("\n")[0]
        warn(f"training goes step by step, since no CUDA graph could be made of one: {first}")
        return None
