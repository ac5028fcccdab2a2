import functools
from functools import partial

import pytest
import torch
from torch import nn

from klom_bench import per_model
from klom_bench.errors import KlomError
from klom_bench.methods import BUILT_IN
from klom_bench.methods.ascent import ga
from klom_bench.methods.method import Traits, applies_to, method, method_of
from klom_bench.methods.noise import unsir
from klom_bench.methods.ranges import Range
from klom_bench.tasks import BUILT_IN as TASKS
from klom_bench.tasks import DIGITS


def plain(model, forget, retain, *, lr=0.1, steps=3, name="a", flag=True, any=None, must):
    yield


SETTINGS = {"lr": 0.1, "steps": 3, "name": "a", "flag": True, "any": None, "must": 1}


def test_defaults_then_the_tasks_then_given_ones():
    found = method_of("plain", plain).values({"lr": 0.3, "must": 1}, {"lr": 0.2, "steps": 5})
    assert found == SETTINGS | {"lr": 0.3, "steps": 5}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lrr": 1}, "unknown hyperparameter 'lrr': did you mean lr"),
        ({"steps": 2.5}, "steps must be of type int as its default 3 is, got 2.5"),
        ({"steps": True}, "steps must be of type int"),
        ({"lr": "fast"}, "lr must be of type float .*'fast'"),
        ({"flag": 1}, "flag must be of type bool"),
        ({}, "needs a value for must: --klom-param plain.must=VALUE"),
    ],
)
def test_what_does_not_fit_is_told(given, message):
    given = {"must": 1, **given} if given else {}
    with pytest.raises(KlomError, match=message):
        method_of("plain", plain).values(given, {})


def test_whole_numbers_are_floats_where_floats_are_wanted():
    value = method_of("plain", plain).values({"lr": 1, "must": 1, "any": "x"}, {})["lr"]
    assert isinstance(value, float)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (3, "gave 3, not an unlearning function"),
        (lambda model, forget: None, "needs three positional ones"),
        (lambda model, forget, retain, **rest: None, r"no \*args or \*\*kwargs"),
        (lambda model, forget, retain, lr: None, "needs three positional ones"),
    ],
)
def test_what_cannot_be_called_is_refused(function, message):
    with pytest.raises(KlomError, match=message):
        method_of("mine", function)


def test_a_partial_is_a_method_with_other_defaults(measured):
    gentle = method_of("mine", partial(ga, lr=0.5, optimizer="adam", epochs=1))
    assert gentle.hyperparameters == {
        **ga.hyperparameters,
        "lr": 0.5,
        "optimizer": "adam",
        "epochs": 1,
    }
    assert gentle.name == "mine"
    with pytest.raises(KlomError, match="mine: unknown hyperparameter 'lrr': did you mean lr"):
        method_of("mine", partial(ga, lrr=0.5))


def test_traits_outlive_wrapping():
    @functools.wraps(unsir)
    def louder(model, forget, retain, **given):
        yield from unsir(model, forget, retain, **given)

    assert method_of("louder", louder).traits == unsir.traits
    assert method_of("louder", partial(louder, penalty=0.2)).traits.class_wise
    assert method_of("louder", louder).hyperparameters == unsir.hyperparameters


def test_what_was_said_before_there_was_a_decorator():
    def control(model, forget, retain):
        yield

    control.changes_nothing = True
    assert method_of("control", control).traits.changes_nothing
    with pytest.warns(DeprecationWarning, match=r"say @klom_bench\.method"):
        marked = applies_to(class_wise=True)(control)
    assert method_of("control", marked).traits == Traits(class_wise=True, changes_nothing=True)


def test_a_value_that_must_be_given_is_missed_by_python_itself():
    with pytest.raises(TypeError, match="must"):
        method()(plain)(None, None, None)


def test_traits_that_are_said_in_two_ways_add_up():
    def control(model, forget, retain, *, retained=0.5):
        yield

    control.changes_nothing = True
    assert method(conv=True)(control).traits == Traits(conv=True, changes_nothing=True)
    with pytest.warns(DeprecationWarning, match="applies_to"):
        both = applies_to(class_wise=True)(method(conv=True)(control))
    assert both.traits == Traits(conv=True, class_wise=True, changes_nothing=True)
    with pytest.raises(KlomError, match="has no name"):
        method()(partial(control, retained=0.1))


def test_a_method_may_be_a_key_and_name_its_hyperparameters_as_it_likes():
    def odd(net, f, r, *, retain=0.5, model=1):
        yield retain

    assert [*method_of("odd", odd)(None, None, None, retain=0.7)] == [0.7]
    assert [*method()(odd)(None, None, None, model=2, retain=0.1)] == [0.1]
    assert {ga: 1}[ga] == 1


def test_ranges_are_of_hyperparameters_that_there_are():
    with pytest.raises(KlomError, match="unknown hyperparameter 'lrr': did you mean lr"):

        @method(tune={"lrr": Range(1, 2)})
        def mine(model, forget, retain, *, lr=1.0):
            yield


def test_defaults_of_tasks_name_real_hyperparameters():
    for task in TASKS.values():
        for name, values in task.hyperparameters.items():
            BUILT_IN[name].values(values, {})


@per_model
def single_ga(model, forget, retain, *, lr=0.05, epochs=3, batch_size=4):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(epochs):
        for x, y in forget.batches(batch_size):
            optimizer.zero_grad()
            (-nn.functional.cross_entropy(model(x), y)).backward()
            optimizer.step()
        yield


def test_per_model_gives_what_the_ensemble_gives(measured):
    settings = {"lr": 0.05, "epochs": 3, "batch_size": 4}
    ours, theirs = measured(ga, **settings), measured(single_ga, **settings)
    assert ours.epoch == theirs.epoch == 3
    assert ours.relative_cost["examples"] == theirs.relative_cost["examples"] > 0
    for split in ours.scores:
        assert theirs.scores[split].mean == pytest.approx(ours.scores[split].mean, abs=0.05)


def test_per_model_takes_a_plain_function(measured):
    @per_model
    def halve(model, forget, retain):
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(0.5)

    assert measured(halve).epoch == 1


def test_per_model_refuses_a_returned_model(measured):
    @per_model
    def makes_another(model, forget, retain):
        return DIGITS.architecture()

    with pytest.raises(KlomError, match="returned Sequential: a function for one model changes it"):
        measured(makes_another)


def test_per_model_refuses_uneven_epochs(measured):
    lengths = iter([1, 2, 2, 2])

    @per_model
    def uneven(model, forget, retain):
        for _ in range(next(lengths)):
            yield

    with pytest.raises(KlomError, match="all must yield equally often"):
        measured(uneven)
