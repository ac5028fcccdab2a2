"""Methods that are broken as public ones were must be caught, and their sound twins must pass."""

import functools

import numpy as np
import pytest
import torch
from helpers.broken_methods import DEFECTS, SomeParameters
from helpers.broken_public_methods import descend
from torch import nn

from klom_bench import per_model
from klom_bench.conformance import small_run
from klom_bench.conformance.checks import CHECKS, complaints, every_hyperparameter_is_used
from klom_bench.conformance.small_task import small_task
from klom_bench.conformance.subject import Subject
from klom_bench.ensemble.ensemble import initial_state
from klom_bench.ensemble.training import Recipe
from klom_bench.errors import KlomError
from klom_bench.methods import BUILT_IN
from klom_bench.methods.method import method_of
from klom_bench.models.mlp import mlp
from klom_bench.tasks import DIGITS, DIGITS_CNN, Data, Task

pytestmark = pytest.mark.no_cover  # others cover the same code, and tracing costs a fifth

CPU = torch.device("cpu")


def examine(function, name="method", **given):
    method = method_of(name, function)
    task = DIGITS_CNN if method.traits.conv else DIGITS
    return complaints(Subject(method, method.values(given, {}), task, CPU))


@pytest.fixture(scope="module", autouse=True)
def small_tasks():
    """Methods share the small tasks, which are tried once: that they leave them alone is checked."""
    with pytest.MonkeyPatch.context() as patch:
        shared = functools.lru_cache(small_task)
        patch.setattr(small_run, "small_task", shared)
        yield shared


@pytest.fixture
def data_as_they_were(small_tasks):
    """After methods that may write to them."""
    yield
    small_tasks.cache_clear()
    DIGITS.forget_data()


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.__name__)
def test_a_broken_method_is_caught(defect, data_as_they_were):
    found = examine(defect(broken=True))
    assert DEFECTS[defect] in found, found
    assert all(isinstance(text, str) for wrong in found.values() for text in wrong)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.__name__)
def test_its_sound_twin_passes(defect):
    assert examine(defect(broken=False)) == {}


def test_every_check_has_a_broken_method():
    assert {check.__name__ for check in CHECKS} <= set(DEFECTS.values())


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_methods_hold(name):
    """Two epochs at most: as many as are usual are tried below, with tuned values."""
    usual = BUILT_IN[name].values({}, {}).get("epochs") or 0
    few = {"epochs": 2} if usual > 2 and name != "munba" else {}  # it draws a few points an epoch
    assert examine(BUILT_IN[name], name, **few) == {}


@pytest.mark.parametrize("name", DIGITS.hyperparameters)
def test_built_in_methods_hold_as_they_are_tuned(name):
    """Whether each hyperparameter is used takes longest, and hardly hangs on their values."""
    method = BUILT_IN[name]
    given = DIGITS.hyperparameters[name]
    if name == "munba":  # with larger ones the few points here make fewer batches of R than of F
        given = {**given, "batch_size": 32}
    subject = Subject(method, method.values(given, {}), DIGITS, CPU)
    assert np.isfinite(subject.first.margins).all()
    assert subject.changed
    others = [check for check in CHECKS if check is not every_hyperparameter_is_used]
    found = {check.__name__: [*check(subject)] for check in others}
    assert not any(found.values()), found


def test_what_it_is_tried_with_is_in_the_docstring():
    def method(model, forget, retain, *, lr=0.0):
        """With no rate nothing changes.

        Tried with: lr 0.05.
        """
        descend(model, forget, lr)
        yield

    assert examine(method) == {}
    method.__doc__ = method.__doc__.replace("lr 0.05", "lr fast")
    with pytest.raises(KlomError, match=r"it must be NAME VALUE, \.\.\., as alpha 1.5"):
        examine(method)
    method.__doc__ = method.__doc__.replace("lr fast", "rate 0.1")
    with pytest.raises(KlomError, match="unknown hyperparameter 'rate'"):
        examine(method)


def test_batchnorm_frozen_may_be_asked_for():
    def method(model, forget, retain, *, freeze_batchnorm=True, lr=0.05):
        descend(model, forget, lr)
        yield

    assert "batchnorm_is_treated_as_said" in examine(method)
    found = examine(method, freeze_batchnorm=False)
    assert set(found) == {"every_hyperparameter_is_used"}


def test_batchnorm_updated_is_held_to_it():
    def method(model, forget, retain, *, lr=0.05):
        """BatchNorm: updated."""
        model.eval()
        descend(model, forget, lr)
        yield

    assert "batchnorm_is_treated_as_said" in examine(method)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Trains: 9.*.", r"says `9\.\*`, which is none of .*: unknown parameter"),
        ("Sees: everything.", "unknown word after sees: 'everything'"),
        ("BatchNorm: cold.", "unknown word after batchnorm: 'cold'"),
        ("Trains: last depth.", "unknown hyperparameter 'depth'"),
        ("Trains: part of the weights.", "unknown hyperparameter 'part'"),
    ],
)
def test_a_claim_that_is_not_understood(line, message):
    def method(model, forget, retain, *, lr=0.05):
        descend(model, forget, lr)
        yield

    method.__doc__ = f"Something.\n\n{line}"
    with pytest.raises(KlomError, match=message):
        examine(method)


def test_wrappers_are_looked_through():
    def method(model, forget, retain, *, lr=0.05):
        """Sees: retain."""
        states = [initial_state(model.architecture, 0) for _ in model.members]
        assert states
        descend(model, retain, lr)
        yield

    assert examine(functools.partial(method, lr=0.1)) == {}


def test_words_of_a_wrapped_function_are_looked_for_in_it():
    @per_model
    def method(model, forget, retain, *, order="random"):
        optimizer = torch.optim.SGD(model.parameters(), lr={"random": 0.05}[order])
        for x, y in forget.batches(16):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    assert examine(method) == {}


def test_an_object_may_be_a_method():
    class Method:
        def __call__(self, model, forget, retain, *, lr=0.05, order="random"):
            descend(model, forget, {"random": lr}[order])
            yield

    assert examine(Method()) == {}


ODD = {
    "steps": -1,
    "many": 10**30,
    "clip": float("inf"),
    "seed": float("nan"),
    "size": 0,
    "betas": (0.9, 0.5),
    "huge": 1e6,
    "nothing": None,
    "table": {"a": 1},
}


def test_odd_values_trouble_no_check():
    def method(model, forget, retain, **given):
        descend(model, forget, 0.05 if repr(given) == repr(ODD) else 0.07)
        yield

    keywords = ", ".join(f"{name}=ODD[{name!r}]" for name in ODD)
    given = ", ".join(f"{name}={name}" for name in ODD)
    code = f"lambda model, forget, retain, *, {keywords}: method(model, forget, retain, {given})"
    assert examine(eval(code, {"ODD": ODD, "method": method})) == {}


@pytest.mark.parametrize(("name", "value"), ODD.items())
def test_odd_values_end_and_are_told_apart(name, value):
    """Used or not, whatever the value."""

    def examined(function):
        method = method_of("method", function)
        return [*every_hyperparameter_is_used(Subject(method, method.values({}, {}), DIGITS, CPU))]

    source = """
def used(model, forget, retain, *, {name}=value):
    lr = 0.05 if repr({name}) == repr(value) else 0.07
    descend(model, forget, lr)
    yield

def unused(model, forget, retain, *, {name}=value):
    descend(model, forget, 0.05)
    yield
"""
    found = {"value": value, "descend": descend}
    exec(source.format(name=name), found)
    assert examined(found["used"]) == []
    (complaint,) = examined(found["unused"])
    assert complaint.startswith(f"{name} = ")
    assert len(complaint) < 150


def test_sound_methods_that_look_unusual():
    def by_keyword(model, forget, retain, *, lr=0.05):
        descend(lambda_of(model), forget, lr)
        yield

    def lambda_of(model):
        wrapped = SomeParameters(model, list(model.parameters()))
        wrapped.call = lambda x: model(x=x)
        return wrapped

    def frozen(model, forget, retain, *, freeze_batchnorm=True, lr=0.05):
        if freeze_batchnorm:
            model.eval()
        descend(model, forget, lr)
        yield

    def reset(model, forget, retain, *, lr=0.05):
        """Resets: 0.*"""
        with torch.no_grad():
            for n, p in model.named_parameters():
                if n.startswith("network.0"):
                    p.copy_(0.1 * model.noise_like(p))
        for points in (forget, retain):
            descend(model, points, lr)
        yield

    def of_this_network(model, forget, retain, *, lr=0.05):
        """Trains: 0.*
        BatchNorm: frozen.
        """
        model.eval()
        descend(SomeParameters(model, list(model.network[0].parameters())), forget, lr)
        yield

    def half(model, forget, retain, *, lr=0.05):
        """Trains: 50% of the weights."""
        descend(SomeParameters(model, list(model.network[2].parameters())), forget, lr)
        yield

    for method in (by_keyword, frozen, reset, of_this_network, half):
        assert examine(method) == {}, method.__name__


@pytest.mark.parametrize("features", [1, 2])
def test_tasks_of_few_features(features):
    g = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 2
    x = torch.randn(300, features, generator=g) + 2 * y[:, None]
    task = Task(
        name="few",
        architecture=lambda: mlp(features, 8, 2),
        load=lambda: Data(x[:200], y[:200], x[200:], y[200:]),
        forget_sets={},
        train=Recipe(5, 32, 0.1),
    )
    method = BUILT_IN["ga"]
    assert complaints(Subject(method, method.values({}, {}), task, CPU)) == {}


def test_a_task_of_too_few_points():
    x, y = torch.randn(30, 4), torch.arange(30) % 2
    task = Task(
        name="tiny",
        architecture=lambda: mlp(4, 8, 2),
        load=lambda: Data(x[:20], y[:20], x[20:], y[20:]),
        forget_sets={},
        train=Recipe(1, 8, 0.1),
    )
    method = BUILT_IN["ga"]
    with pytest.raises(KlomError, match="tiny has 20 train points: conformance needs 40"):
        complaints(Subject(method, method.values({}, {}), task, CPU))
