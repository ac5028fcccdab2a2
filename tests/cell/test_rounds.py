"""Members are unlearned a few packs at a time: what is held then, what is timed, what is the same."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from klom_bench import engine
from klom_bench.cell import loading
from klom_bench.cell.clock import Clock
from klom_bench.cell.measure import measure
from klom_bench.files import scratch
from klom_bench.store.own import OwnEnsemble
from klom_bench.store.store import Store
from klom_bench.tasks import DIGITS

SINGLES = replace(DIGITS, pack=1)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def large(monkeypatch):
    """large(): from now on everything is too large to be held together."""

    def clear():
        loading.originals_of.cache_clear()
        loading._logits.cache_clear()

    def begin():
        clear()
        monkeypatch.setattr(loading, "LARGE", 0)
        monkeypatch.setattr(scratch, "LARGE", 0)

    yield begin
    clear()


def halves(model, forget, retain):
    """Changes all parameters, and leaves gradients behind."""
    x, _ = next(forget.batches(8))
    model(x).sum().backward()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.5)
    yield


def draws_late(model, forget, retain):
    """Draws random numbers when it is evaluated, too."""
    for _ in range(3):
        noise = torch.randn(10, generator=model.generator(0))
        yield lambda x, noise=noise: model(x) + noise + torch.rand(1, generator=model.generator(0))


def alive(references):
    return sum(reference() is not None for reference in references)


@pytest.mark.parametrize("cyclic", [False, True])
def test_only_models_in_work_are_held(cell, small_store, threads, large, monkeypatch, cyclic):
    large()
    models, most, when_read = [], [], []
    usual = OwnEnsemble.states_of

    def states_of(self, members):
        when_read.append(alive(models))
        return usual(self, members)

    def counts(model, forget, retain):
        most.append(alive(models))
        models.append(weakref.ref(next(iter(model.parameters()))))
        if cyclic:
            model.itself = [model]
        yield from halves(model, forget, retain)

    monkeypatch.setattr(OwnEnsemble, "states_of", states_of)
    gc.disable()
    try:
        measure(cell(counts, members=7, task=SINGLES), Store(small_store))
    finally:
        gc.enable()
    assert len(models) == 7
    assert max(most) < threads
    assert max(when_read) == 0
    assert alive(models) == 0


@pytest.mark.parametrize("name", ["halves", "oracle_matching"])
def test_states_are_read_for_a_pack_and_let_go(cell, small_store, large, monkeypatch, name):
    large()
    read, sizes, most = [], [], []
    usual = OwnEnsemble.states_of

    def states_of(self, members):
        most.append(alive(read))
        states = usual(self, members)
        sizes.append(len(states))
        read.extend(weakref.ref(tensor) for state in states for tensor in state.values())
        return states

    monkeypatch.setattr(OwnEnsemble, "states_of", states_of)
    asked = cell(halves if name == "halves" else name, members=6, task=replace(DIGITS, pack=2))
    measure(asked, Store(small_store))
    assert max(sizes) == 2
    assert sizes.count(2) == (6 if name == "halves" else 9)
    assert max(most) == 0


def test_small_originals_are_read_once(cell, small_store, monkeypatch):
    loading.originals_of.cache_clear()
    read = []
    usual = OwnEnsemble.states_of

    def states_of(self, members):
        read.append(list(members))
        return usual(self, members)

    monkeypatch.setattr(OwnEnsemble, "states_of", states_of)
    for forget_set in ("forget_set_3", "forget_set_4"):
        measure(cell(halves, forget_set, task=SINGLES), Store(small_store))
    read = [members for members in read if members != [0]]  # as is looked at before training
    assert read == [[0, 1, 2, 3]]


def test_gradients_are_gone_when_models_are_evaluated(measured):
    seen = []

    def watched(model, forget, retain):
        yield from halves(model, forget, retain)
        assert any(p.grad is not None for p in model.parameters())

        def outputs(x):
            seen.extend(p.grad for p in model.parameters())
            return model(x)

        yield outputs

    measured(watched)
    assert seen
    assert all(gradient is None for gradient in seen)


@pytest.mark.parametrize("method", ["random_label", draws_late])
def test_many_rounds_give_what_one_gives(cell, small_store, threads, monkeypatch, method):
    asked = replace(cell(method, members=7, task=replace(DIGITS, pack=2)), epochs=(1, 3))
    found = []
    for at_a_time in (1, 2, 9):
        monkeypatch.setattr(engine.threads, "thread_count", lambda _, n=at_a_time: n)
        found.append(measure(asked, Store(small_store)))
    first, *others = found
    for other in others:
        for a, b in zip((first, *first.earlier), (other, *other.earlier), strict=True):
            np.testing.assert_array_equal(a.points, b.points)
            assert (a.accuracy, a.epoch) == (b.accuracy, b.epoch)
            assert a.relative_cost["examples"] == b.relative_cost["examples"]


@pytest.mark.parametrize(
    ("name", "given"),
    [("ga", {"lr": 0.3}), ("oracle_matching", {"epochs": 1}), ("dm_direct", {"subsets": 5})],
)
def test_what_is_large_lies_in_files_and_scores_the_same(cell, small_store, large, name, given):
    asked = cell(name, members=5, task=replace(DIGITS, pack=2), **given)
    before = measure(asked, Store(small_store))
    large()
    assert isinstance(scratch.scratch((2, 3)), np.memmap)
    after = measure(asked, Store(small_store))
    np.testing.assert_array_equal(before.points, after.points)
    assert before.accuracy == after.accuracy
    assert before.accuracy_do_nothing == after.accuracy_do_nothing


def test_the_clock_runs_while_members_are_unlearned_only(cell, small_store, large, monkeypatch):
    """By a timer that everybody else moves on, too."""
    large()
    now = [0.0]
    usual = OwnEnsemble.states_of

    def states_of(self, members):
        now[0] += 1000
        return usual(self, members)

    def slow(model, forget, retain):
        now[0] += 1
        yield

        def outputs(x):
            now[0] += 100
            return 2 * model(x)

        yield outputs

    monkeypatch.setattr(OwnEnsemble, "states_of", states_of)
    clock = Clock(lambda: now[0])
    asked = cell(slow, members=6, task=replace(DIGITS, pack=2))
    measure(asked, Store(small_store), timed=lambda unlearning: unlearning(clock))
    assert clock() == 3
    assert now[0] > 3000
