"""Methods that are broken as public ones were: each must be caught, and its sound twin must pass.

The first seven are those of the notes on public code; `broken` switches between the twins.
"""

import copy
import functools
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from klom_bench import per_model
from klom_bench.conformance.checks import CHECKS, complaints
from klom_bench.conformance.subject import Subject
from klom_bench.ensemble.ensemble import initial_state
from klom_bench.ensemble.losses import cross_entropy, kl
from klom_bench.ensemble.training import Recipe
from klom_bench.errors import KlomError
from klom_bench.methods import BUILT_IN
from klom_bench.methods.method import method_of
from klom_bench.models.mlp import mlp
from klom_bench.tasks import DIGITS, DIGITS_CNN, Data, Task

CPU = torch.device("cpu")


def examine(function, name="method", **given):
    method = method_of(name, function)
    task = DIGITS_CNN if method.traits.conv else DIGITS
    return complaints(Subject(method, method.values(given, {}), task, CPU))


def descend(model, points, lr, epochs=1, **more):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, **more)
    for _ in range(epochs):
        for x, y in points.batches(16):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()


def scrub_like(teacher_of, held_by):
    """SCRUB in little: the teacher and what the optimizer holds are what may go wrong."""

    def method(model, forget, retain, *, lr=0.05):
        teacher = teacher_of(model)
        optimizer = torch.optim.SGD(held_by(model, teacher).parameters(), lr=lr)
        for _ in range(2):
            for x, y in retain.batches(32):
                optimizer.zero_grad()
                (cross_entropy(model(x), y) + kl(teacher(x).detach(), model(x))).backward()
                optimizer.step()
            for x, _ in forget.batches(32):
                optimizer.zero_grad()
                (-kl(teacher(x).detach(), model(x))).backward()
                optimizer.step()
        yield

    return method


def the_optimizer_holds_the_teachers_parameters(broken):
    return scrub_like(lambda m: m.clone(), lambda m, teacher: teacher if broken else m)


def the_teacher_is_a_shallow_copy(broken):
    return scrub_like(lambda m: copy.copy(m) if broken else m.clone(), lambda m, _: m)


def the_forget_set_is_cut(broken):
    def method(model, forget, retain, *, lr=0.05):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for x, y in itertools.islice(forget.batches(64), 2 if broken else None):
            optimizer.zero_grad()
            (-cross_entropy(model(x), y)).backward()
            optimizer.step()
        yield

    return method


def weight_decay_moves_masked_weights(broken):
    def method(model, forget, retain, *, share=0.5, weight_decay=0.1):
        """Saliency in little.

        Trains: share of the weights.
        """
        parameters = list(model.parameters())
        optimizer = torch.optim.SGD(parameters, lr=0.1, weight_decay=weight_decay)
        old = [p.detach().clone() for p in parameters]
        sums = [torch.zeros_like(p) for p in parameters]
        for x, y in forget.batches(64):
            gradients = torch.autograd.grad(cross_entropy(model(x), y), parameters)
            sums = [s + g for s, g in zip(sums, gradients, strict=True)]
        every = torch.cat([s.abs().flatten(1) for s in sums], 1)
        edge = every.sort(1).values[:, -int(share * every.shape[1])]
        masks = [s.abs() >= edge.view(-1, *[1] * (s.ndim - 1)) for s in sums]
        for x, y in forget.batches(64):
            optimizer.zero_grad()
            (-cross_entropy(model(x), y)).backward()
            for p, mask in zip(parameters, masks, strict=True):
                p.grad *= mask
            optimizer.step()
            if not broken:
                with torch.no_grad():
                    for p, mask, before in zip(parameters, masks, old, strict=True):
                        p.copy_(torch.where(mask, p, before))
        yield

    return method


def a_layer_without_reset_parameters_is_skipped(broken):
    """EU-k in little: the last k blocks anew, then fine-tuned on R."""

    def reset(child, fresh):
        for module, other in zip(child.modules(), fresh.modules(), strict=True):
            if not broken or hasattr(module, "reset_parameters"):
                own = dict(module.named_parameters(recurse=False))
                for name, value in other.named_parameters(recurse=False):
                    own[name].data.copy_(value)

    @per_model
    def method(model, forget, retain, *, k=1, lr=0.05):
        """Exact unlearning of the last blocks.

        Trains: last k.
        Resets: last k.
        Sees: retain.
        """
        blocks = [c for c in model.children() if any(True for _ in c.parameters())][-k:]
        last = list(model.children()).index(blocks[0])
        seed = int(torch.randint(2**31, (), generator=retain.points.generators[0]))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            anew = copy.deepcopy(model)
            for module in anew.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
                elif hasattr(module, "scale"):
                    module.scale.data.uniform_(0.5, 1.5)
        for child, fresh in list(zip(model.children(), anew.children(), strict=True))[last:]:
            reset(child, fresh)
        optimizer = torch.optim.SGD([p for b in blocks for p in b.parameters()], lr=lr)
        model.eval()
        for x, y in retain.batches(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    return method


def train_mode_where_batchnorm_should_be_frozen(broken):
    def method(model, forget, retain, *, lr=0.05):
        """Fine-tuning.

        Sees: retain.
        BatchNorm: frozen.
        """
        if not broken:
            model.eval()
        descend(model, retain, lr)
        yield

    return method


def a_stale_cache_hides_that_nothing_is_done(broken):
    cache = {}

    def method(model, forget, retain, *, lr=0.05):
        key = "done" if broken else object()
        if key not in cache:
            descend(model, forget, lr)
            cache[key] = [p.detach().clone() for p in model.parameters()]
        with torch.no_grad():
            for p, done in zip(model.parameters(), cache[key], strict=True):
                p.copy_(done[:1].expand_as(p) if done.shape != p.shape else done)
        yield

    return method


OF_PUBLIC_CODE = {
    the_optimizer_holds_the_teachers_parameters: "trains_what_it_says",
    the_teacher_is_a_shallow_copy: "every_forget_point_counts",
    the_forget_set_is_cut: "every_forget_point_counts",
    weight_decay_moves_masked_weights: "trains_what_it_says",
    a_layer_without_reset_parameters_is_skipped: "resets_are_whole",
    train_mode_where_batchnorm_should_be_frozen: "batchnorm_is_treated_as_said",
    a_stale_cache_hides_that_nothing_is_done: "every_forget_point_counts",
}


def validation_points_are_used(broken):
    def method(model, forget, retain, *, lr=0.05):
        if broken:
            x = DIGITS.data.x_val[:3]
            model(x.expand(len(model), *x.shape))
        descend(model, forget, lr)
        yield

    return method


def randomness_is_global(broken):
    def method(model, forget, retain, *, sigma=0.01):
        descend(model, forget, 0.05)
        with torch.no_grad():
            for p in model.parameters():
                p += sigma * (torch.randn_like(p) if broken else model.noise_like(p))
        yield

    return method


def numpy_randomness_is_global(broken):
    def method(model, forget, retain, *, lr=0.05):
        descend(model, forget, lr * (np.random.rand() if broken else 0.5))
        yield

    return method


def the_loss_is_a_mean_over_members(broken):
    def method(model, forget, retain, *, lr=0.05):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for x, y in forget.batches(64):
            optimizer.zero_grad()
            (-cross_entropy(model(x), y) / (len(model) if broken else 1)).backward()
            optimizer.step()
        yield

    return method


def members_share_one_generator(broken):
    def method(model, forget, retain, *, sigma=0.01):
        descend(model, forget, 0.05)
        with torch.no_grad():
            for p in model.parameters():
                if broken:
                    p += sigma * torch.randn(p.shape, generator=model.generator(0))
                else:
                    p += sigma * model.noise_like(p)
        yield

    return method


def a_hyperparameter_is_not_used(broken):
    def method(model, forget, retain, *, lr=0.05, momentum=0.9):
        descend(model, forget, lr, epochs=2, momentum=0.5 if broken else momentum)
        yield

    return method


def a_word_is_not_used(broken):
    def not_read(model, forget, retain, *, order="random"):
        descend(model, forget, 0.05)
        yield

    def read(model, forget, retain, *, order="random"):
        descend(model, forget, {"random": 0.05}[order])
        yield

    return not_read if broken else read


def the_data_are_changed(broken):
    def method(model, forget, retain, *, lr=0.05):
        descend(model, forget, lr)
        retain.x.add_(0.001 if broken else 0)
        yield

    return method


def what_should_be_frozen_moves(broken):
    def method(model, forget, retain, *, lr=0.05):
        """Trains: 2.*"""
        chosen = [p for n, p in model.named_parameters() if broken or n.startswith("network.2")]
        optimizer = torch.optim.SGD(chosen, lr=lr)
        for x, y in forget.batches(64):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        yield

    return method


def a_layer_moves_by_weight_decay_alone(broken):
    def method(model, forget, retain, *, lr=0.05):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=0.1)
        for x, y in forget.batches(64):
            optimizer.zero_grad()
            first = [p for n, p in model.named_parameters() if n.startswith("network.0")]
            for p in first:
                p.requires_grad_(not broken)
            cross_entropy(model(x), y).backward()
            for p in first:
                p.requires_grad_(True)
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            optimizer.step()
        yield

    return method


def the_forget_set_is_seen_after_all(broken):
    def method(model, forget, retain, *, lr=0.05):
        """Sees: retain."""
        descend(model, retain, lr)
        if broken:
            descend(model, forget, lr)
        yield

    return method


def it_changes_something(broken):
    def method(model, forget, retain):
        if broken:
            descend(model, forget, 0.05)
        yield

    method.changes_nothing = True
    return method


def it_diverges(broken):
    def method(model, forget, retain, *, lr=0.05):
        descend(model, forget, lr * (1e9 if broken else 1), epochs=3)
        yield

    return method


def data_are_changed_once_and_for_all(broken):
    def method(model, forget, retain, *, lr=0.05):
        descend(model, forget, lr)
        retain.x.clamp_(max=0.5 if broken else 100.0)
        yield

    return method


def only_the_first_forget_points_are_used(broken):
    def method(model, forget, retain, *, lr=0.05):
        some = copy.copy(forget)
        some.indices = forget.indices[..., : 50 if broken else None]
        descend(model, some, lr)
        yield

    return method


def only_the_first_batches_are_used(broken):
    def method(model, forget, retain, *, lr=0.05):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for x, y in itertools.islice(forget.batches(16), 3 if broken else None):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        yield

    return method


def validation_points_are_used_in_disguise(broken):
    def method(model, forget, retain, *, task, lr=0.05):
        descend(model, forget, lr)
        if broken:
            x, y = (
                t[:16].expand(len(model), *t[:16].shape) for t in (task.data.x_val, task.data.y_val)
            )
            cross_entropy(model.forward(x * 1.001), y).backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= lr * p.grad
        yield

    return method


def retain_points_are_seen_after_all(broken):
    def method(model, forget, retain, *, lr=0.05):
        """Sees: forget."""
        descend(model, forget, lr)
        if broken:
            descend(model, retain, lr)
        yield

    return method


def a_claim_in_lower_case_is_not_kept(broken):
    def method(model, forget, retain, *, lr=0.05):
        """trains: 2.*"""
        chosen = [p for n, p in model.named_parameters() if broken or n.startswith("network.2")]
        descend(SomeParameters(model, chosen), forget, lr)
        yield

    return method


class SomeParameters:
    def __init__(self, model, parameters):
        self.call, self.chosen = model, parameters

    def __call__(self, x):
        return self.call(x)

    def parameters(self):
        return self.chosen


def gradients_are_thrown_away(broken):
    def method(model, forget, retain, *, lr=0.05, weight_decay=0.1):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=weight_decay)
        for x, y in forget.batches(64):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            if broken:
                for n, p in model.named_parameters():
                    if n.startswith("network.0"):
                        p.grad.zero_()
            optimizer.step()
        yield

    return method


def gradients_are_clipped_over_members(broken):
    """At 2 a pack of three is hardly clipped, a full one always is."""

    def method(model, forget, retain, *, lr=0.1, clip=2.0):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for x, y in forget.batches(64):
            optimizer.zero_grad()
            (-cross_entropy(model(x), y)).backward()
            if broken:
                nn.utils.clip_grad_norm_(model.parameters(), clip / 50)
            else:
                for p in model.parameters():
                    p.grad.clamp_(-clip / 50, clip / 50)
            optimizer.step()
        yield

    return method


def a_flag_is_not_read(broken):
    def not_read(model, forget, retain, *, verbose=False):
        descend(model, forget, 0.05)
        yield

    def read(model, forget, retain, *, verbose=False):
        descend(model, forget, 0.05)
        if verbose:
            print("done")
        yield

    return not_read if broken else read


OTHERS = {
    data_are_changed_once_and_for_all: "originals_are_untouched",
    only_the_first_forget_points_are_used: "every_forget_point_counts",
    only_the_first_batches_are_used: "every_forget_point_counts",
    validation_points_are_used_in_disguise: "no_validation_point_is_seen",
    retain_points_are_seen_after_all: "every_forget_point_counts",
    a_claim_in_lower_case_is_not_kept: "trains_what_it_says",
    gradients_are_thrown_away: "trains_what_it_says",
    gradients_are_clipped_over_members: "the_pack_makes_no_difference",
    a_flag_is_not_read: "every_hyperparameter_is_used",
    validation_points_are_used: "no_validation_point_is_seen",
    randomness_is_global: "the_same_seed_gives_the_same",
    numpy_randomness_is_global: "the_same_seed_gives_the_same",
    the_loss_is_a_mean_over_members: "the_pack_makes_no_difference",
    members_share_one_generator: "the_pack_makes_no_difference",
    a_hyperparameter_is_not_used: "every_hyperparameter_is_used",
    a_word_is_not_used: "every_hyperparameter_is_used",
    the_data_are_changed: "originals_are_untouched",
    what_should_be_frozen_moves: "trains_what_it_says",
    a_layer_moves_by_weight_decay_alone: "trains_what_it_says",
    the_forget_set_is_seen_after_all: "every_forget_point_counts",
    it_changes_something: "it_changes_nothing",
    it_diverges: "it_stays_finite",
}
DEFECTS = OF_PUBLIC_CODE | OTHERS


@pytest.fixture(autouse=True)
def data_as_they_were():
    yield
    DIGITS.forget_data()


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.__name__)
def test_a_broken_method_is_caught(defect):
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
    assert examine(BUILT_IN[name], name) == {}


@pytest.mark.parametrize("name", DIGITS.hyperparameters)
def test_built_in_methods_hold_as_they_are_tuned(name):
    assert examine(BUILT_IN[name], name, **DIGITS.hyperparameters[name]) == {}


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", -1),
        ("many", 10**30),
        ("clip", float("inf")),
        ("seed", float("nan")),
        ("size", 0),
        ("betas", (0.9, 0.5)),
        ("huge", 1e6),
        ("nothing", None),
        ("table", {"a": 1}),
    ],
)
def test_odd_values_end_and_are_told_apart(name, value):
    """Used or not, whatever the value."""
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
    assert examine(found["used"]) == {}
    (complaint,) = examine(found["unused"])["every_hyperparameter_is_used"]
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
        "few",
        "FEW",
        lambda: mlp(features, 8, 2),
        Recipe(5, 32, 0.1),
        lambda: Data(x[:200], y[:200], x[200:], y[200:], ""),
        200,
        {},
    )
    method = BUILT_IN["ga"]
    assert complaints(Subject(method, method.values({}, {}), task, CPU)) == {}


def test_a_task_of_too_few_points():
    x, y = torch.randn(30, 4), torch.arange(30) % 2
    task = Task(
        "tiny",
        "TINY",
        lambda: mlp(4, 8, 2),
        Recipe(1, 8, 0.1),
        lambda: Data(x[:20], y[:20], x[20:], y[20:], ""),
        20,
        {},
    )
    method = BUILT_IN["ga"]
    with pytest.raises(KlomError, match="tiny has 20 train points: conformance needs 40"):
        complaints(Subject(method, method.values({}, {}), task, CPU))
