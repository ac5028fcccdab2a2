"""Points, networks and numbers that built-in methods must bear, or refuse with a reason."""

import pytest
import torch
from helpers.any_method import any_method
from helpers.by_hand import FORGET, MEMBERS, RETAIN, X, Y, streams
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble, initial_state
from klom_bench.ensemble.points import Points
from klom_bench.errors import KlomError
from klom_bench.methods import BUILT_IN
from klom_bench.methods.boundary import class_beyond, range_of_pixels
from klom_bench.methods.noise import first_of_classes
from klom_bench.models.mlp import mlp

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("double")


class WithUnused(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused, self.body = nn.Parameter(torch.ones(3)), mlp()

    def forward(self, x):
        return self.body(x)


def after(name, architecture=mlp, x=X, forget=FORGET, states=None, **settings):
    gens = streams()
    states = states or [initial_state(architecture, i) for i in MEMBERS]
    model = Ensemble(architecture, states, MEMBERS, gens).train()
    points = [Points(x, Y, rows, gens) for rows in (forget, RETAIN)]
    for _ in BUILT_IN[name](model, *points, **settings):
        pass
    return model.states()


@pytest.mark.parametrize(
    "name", ["ssd", "lfssd", "assd", "iu", "influence", "munba", "sfron", "salun"]
)
def test_a_parameter_that_is_not_used(name):
    few = {"epochs": 1, "examples": 9, "iterations": 2}
    few = {n: v for n, v in few.items() if n in BUILT_IN[name].hyperparameters}
    for state in after(name, WithUnused, **few):
        assert all(value.isfinite().all() for value in state.values())
        assert torch.allclose(state["unused"], torch.ones(3), atol=0.1)  # weight decay


def test_a_member_that_has_diverged_is_dampened_alone():
    states = [initial_state(mlp, i) for i in MEMBERS]
    alone = after("assd", states=states)
    states[1] = {n: torch.full_like(v, torch.nan) for n, v in states[1].items()}
    beside = after("assd", states=states)
    assert all(torch.equal(alone[0][n], beside[0][n]) for n in alone[0])


@pytest.mark.parametrize("settings", [{"sigma": 0.0}, {}])
def test_jit_where_nothing_can_move(settings):
    for state in after("jit", x=torch.ones(60, 64), samples=2, **settings):
        assert all(value.isfinite().all() for value in state.values())


def test_members_have_points_of_their_own_of_each_class():
    rows = torch.tensor([[20, 8, 4, 0, 12, 16], [1, 2, 5, 6, 9, 10]])
    labels = torch.arange(21) % 2
    with pytest.raises(KlomError, match="unlike numbers of points"):
        first_of_classes(Points(X[:21], labels, rows, streams()), 2)
    some = first_of_classes(Points(X[:21], labels * 0, rows, streams()), 2)
    assert some.indices.tolist() == [[0, 4], [1, 2]]


def prepared(x):
    """A border that never varies, and colours upside down."""
    return nn.functional.pad(1 - x.double() / 255, (1, 1, 1, 1))


def test_pixels_that_never_vary_and_colours_upside_down():
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            ink = self.scale * x.flatten(1).mean(1)
            return torch.stack([ink, 0.4 - ink], 1)

    stored = torch.full((4, 1, 4, 4), 128, dtype=torch.uint8)
    f0 = Ensemble(Mean, [initial_state(Mean, 0)])
    x, y = prepared(stored).unsqueeze(0), torch.zeros(1, 4, dtype=torch.int64)
    border = (prepared(torch.zeros_like(stored[:1])), prepared(torch.full_like(stored[:1], 255)))
    assert class_beyond(f0, x, y, 0.01, border, masked=False).tolist() == [[0] * 4]  # ink .22
    assert class_beyond(f0, x, y, 0.2, border, masked=False).tolist() == [[1] * 4]  # less of it
    assert range_of_pixels(stored, lambda x: x.double() / 255, CPU) is not None
    noise = torch.randint(0, 256, (4, 1, 4, 4)).byte()
    assert range_of_pixels(noise, lambda x: (x.double() / 255) ** 2, CPU) is None


def test_hooks_of_msg_go_with_it():
    gens = streams()
    conv = any_method("msg", epochs=1)[0]
    points = [Points(X[:60], Y[:60], rows, gens) for rows in (FORGET, RETAIN)]
    steps = BUILT_IN["msg"](conv, *points, epochs=3)
    next(steps)
    kernel = next(p for p in conv.parameters() if p.ndim == 5)
    assert kernel._backward_hooks
    steps.close()
    assert not kernel._backward_hooks
