"""One cell on the real task with few members, and everything that makes a score meaningless."""

import json
from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from klom_bench import klom
from klom_bench.cell.measure import measure
from klom_bench.cell.unlearning import Unlearning
from klom_bench.errors import KlomError
from klom_bench.methods import BUILT_IN
from klom_bench.metrics.klom import klom_and_reverse
from klom_bench.report.failure import failure
from klom_bench.store.store import Store
from klom_bench.tasks import DIGITS

CPU = torch.device("cpu")


def test_a_record_is_what_its_margins_say(measured, cell, small_store):
    record, store, asked = measured("do_nothing"), Store(small_store), cell("do_nothing")
    oracle, original = (
        store.held(asked.oracle_id).margins(4, CPU),
        store.held(asked.original_id).margins(4, CPU),
    )
    np.testing.assert_allclose(record.points, klom(oracle, original), atol=1e-9)
    forget = DIGITS.forget_set("forget_set_3").indices
    retain = [i for i in range(1438) if i not in set(forget)]
    for split, rows in (("forget", forget), ("retain", retain), ("val", range(1438, 1797))):
        scores = record.points[list(rows)]
        assert record.scores[split].mean == pytest.approx(scores.mean())
        assert record.scores[split].p95 == pytest.approx(np.percentile(scores, 95))
    assert record.scores == record.do_nothing
    assert record.accuracy == record.accuracy_do_nothing
    assert record.relative_cost["examples"] == 0


@pytest.mark.parametrize("given", [{"epochs": 1}, {"epochs": 7}, {}])
def test_progress_of_unlearning_adds_up(cell, small_store, given):
    told = {}

    @contextmanager
    def announce(label, members):
        told[label] = []
        yield told[label].append

    store = Store(small_store)
    measure(cell("finetune", members=30, **given), store, announce=announce)
    ticks = told["finetune on forget_set_3"]
    assert sum(ticks) == pytest.approx(30)
    assert len(ticks) == 2 * given.get("epochs", 10)
    assert min(ticks) > 0


def test_unequal_numbers_are_allowed(measured):
    record = measured("do_nothing", members=3, oracles=8)
    assert record.to_json()["members"] == {"oracle": 8, "unlearned": 3}


def test_retraining_costs_what_retraining_costs(measured):
    record = measured("retrain")
    batches = (1438 - 100) // 64 * 64  # the last one is dropped
    assert record.relative_cost["examples"] == pytest.approx(batches / 1338)
    assert 0.2 < record.relative_cost["time"] < 5


def test_the_same_cell_gives_the_same_record(measured):
    first, again = measured("ga", lr=0.3), measured("ga", lr=0.3)
    np.testing.assert_array_equal(first.points, again.points)


def test_members_do_not_depend_on_how_many_there_are(cell, small_store):
    """Unlearned members 0..3 are the same among 4 and among 30, in other packs."""

    def unlearned(members):
        asked = cell("random_label", members=members)
        states = Store(small_store).held(asked.original_id).states_of(range(members))
        run = Unlearning(asked, states, range(members), {})
        for _ in run.epochs():
            pass
        return run.logits(run.epoch)

    Store(small_store).complete([(cell("ga").original_id, 30)], torch.device("cpu"))
    assert torch.equal(unlearned(30)[:4], unlearned(4))


def test_json_is_plain_and_whole(measured):
    record = measured("ga", lr=0.3)
    content = json.loads(json.dumps(record.to_json(), allow_nan=False))
    assert content["schema"] == 1
    assert content["hyperparameters"] == {
        "lr": 0.3,
        "epochs": 5,
        "batch_size": 64,
        "optimizer": "sgd",
        "schedule": "constant",
        "max_norm": 0.0,
        "freeze_batchnorm": False,
    }
    assert (content["setting"], content["tuning"], content["earlier"]) == ("", None, [])
    assert content["estimator"] == {
        "name": "default",
        "direction": "oracle || unlearned",
        "bins": 18,
        "eps": 1e-5,
        "clip": None,
    }
    for key in ("accuracy", "accuracy_do_nothing", "accuracy_oracle", "seconds", "relative_cost"):
        assert content[key] == getattr(record, key)
    assert content["accuracy"] != content["accuracy_oracle"]
    for key in ("scores", "reverse", "do_nothing", "floor"):
        for split, summary in getattr(record, key).items():
            assert content[key][split] == asdict(summary)
        assert set(content[key]) == {"forget", "retain", "val"}
        assert set(content[key]["val"]) == {"mean", "p50", "p95", "p99"}
    assert set(content["accuracy"]) == {"forget", "retain", "val"}
    assert set(content["seconds"]) == {"unlearn", "per_member", "retrain"}
    assert set(content["relative_cost"]) == {"time", "examples"}
    assert content["verdict"] == "none"
    assert content["gates"] == []
    assert content["forget_set_sha256"] == DIGITS.forget_set("forget_set_3").sha256


def test_outputs_may_be_changed_instead_of_weights(measured):
    def shifted(model, forget, retain, *, by=1.0):
        yield lambda x: model(x) + by * torch.arange(10.0)

    record = measured(shifted)
    assert record.scores["val"].mean > record.do_nothing["val"].mean


def nothing_at_all(model, forget, retain):
    yield


def wrapped_nothing(model, forget, retain):
    yield lambda x: model(x)


def yields_nothing(model, forget, retain):
    for _ in ():
        yield


def yields_a_number(model, forget, retain):
    yield 5


def no_generator(model, forget, retain):
    return None


def explodes(model, forget, retain):
    with torch.no_grad():
        next(iter(model.parameters()))[2] *= torch.nan
    yield


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (nothing_at_all, "nothing_at_all changed nothing on forget_set_3"),
        (wrapped_nothing, "wrapped_nothing changed nothing"),
        (yields_nothing, r"yields_nothing never yielded with \{\}"),
        (yields_a_number, "yields_a_number yielded 5: yield nothing where the model was changed"),
        (no_generator, "no_generator never yielded"),
        (explodes, "explodes diverged on forget_set_3: the margin of member 2 at point 0 is nan"),
    ],
)
def test_a_method_that_measures_nothing_is_refused(measured, function, message):
    with pytest.raises(KlomError, match=message):
        measured(function)


def test_a_control_may_say_that_it_changes_nothing(measured):
    def control(model, forget, retain, *, lr=0.0):
        yield

    control.changes_nothing = True
    assert measured(control).scores == measured("do_nothing").scores


def test_a_method_that_writes_to_the_stored_originals_is_caught(cell, tmp_path):
    store = Store(tmp_path)

    def vandal(model, forget, retain):
        path = store.folder(cell("ga").original_id) / "sd_1____epoch_19.pt"
        path.write_bytes(path.read_bytes())
        yield

    vandal.changes_nothing = True
    with pytest.raises(KlomError, match="vandal wrote to the stored originals"):
        measure(cell(vandal, members=2), store)


@pytest.mark.parametrize("error", [False, True])
def test_a_method_that_changes_the_data_is_caught_and_harms_no_other(measured, error):
    before = measured("finetune", epochs=1).points

    def careless(model, forget, retain):
        with torch.no_grad():
            next(iter(model.parameters())).mul_(0.5)
        forget.x[forget.indices] = 0
        forget.y[forget.indices] = (forget.y[forget.indices] + 1) % 10
        if error:
            raise RuntimeError("and broken")
        yield

    with pytest.raises((KlomError, RuntimeError), match=r"in place, which all tests|and broken"):
        measured(careless)
    np.testing.assert_array_equal(measured("finetune", epochs=1).points, before)


def test_a_method_cannot_move_the_forget_set(measured):
    def sly(model, forget, retain):
        forget.indices.copy_(torch.arange(100))
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1 + 1e-6)
        yield

    assert measured(sly).scores["forget"].mean == pytest.approx(
        measured("do_nothing").scores["forget"].mean, abs=0.2
    )
    assert DIGITS.forget_set("forget_set_3").indices[0] == measured("ga").splits["forget"][0]


def test_all_members_must_be_changed(measured):
    def lazy(model, forget, retain):
        with torch.no_grad():
            for p in model.parameters():
                p[1:].mul_(0.9)
        yield

    with pytest.raises(KlomError, match=r"changed nothing in 1 members \(the first is 0\)"):
        measured(lazy)


def test_all_packs_must_run_as_many_epochs(measured):
    def uneven(model, forget, retain):
        with torch.no_grad():
            next(iter(model.parameters())).mul_(0.9)
        for _ in range(1 + (model.members[0] > 0)):
            yield

    with pytest.raises(KlomError, match=r"yielded \[1, 2\] times for different members"):
        measured(uneven, members=30)


@pytest.mark.gates
def test_a_minority_of_wrecked_members_shows_in_the_reverse(measured):
    """One wrecked member in ten hardly moves KLOM; its reverse tells, and can be gated."""

    retrained = {}

    def keeps(model, forget, retain, *, task):
        yield from BUILT_IN["retrain"](model, forget, retain, task=task)
        retrained[model.members] = model.states()

    def wrecks_a_tenth(model, forget, retain):
        model.load_states(retrained[model.members])
        with torch.no_grad():
            for p in model.parameters():
                p[::10].normal_(0, 3, generator=model.generator(0))
        yield

    limits = {"reverse_val_mean": 1.3}
    whole = measured(keeps, members=50, limits=limits)
    wrecked = measured(wrecks_a_tenth, members=50, limits=limits)
    assert whole.verdict == "pass"
    assert wrecked.verdict == "fail"
    assert "reverse divergence" in failure(wrecked)


def test_the_reverse_is_that_of_the_margins(measured, cell, small_store):
    record, store, asked = measured("do_nothing"), Store(small_store), cell("do_nothing")
    pair = (store.held(i).margins(4, CPU) for i in (asked.oracle_id, asked.original_id))
    _, reverse = klom_and_reverse(*pair)
    assert record.reverse["val"].mean == pytest.approx(reverse[1438:].mean())
    assert record.reverse["val"].mean != pytest.approx(record.scores["val"].mean)


def test_accuracies_are_those_of_the_models(measured, cell, small_store):
    record, store, asked = measured("do_nothing"), Store(small_store), cell("do_nothing")
    x, y = torch.cat([DIGITS.data.x_train, DIGITS.data.x_val]), DIGITS.data.y()
    for ensemble, found in (
        (asked.original_id, record.accuracy),
        (asked.oracle_id, record.accuracy_oracle),
    ):
        right = []
        for state in store.held(ensemble).states_of(range(4)):
            net = DIGITS.architecture()
            net.load_state_dict(state)
            right.append((net(x).argmax(1) == y).numpy())
        for split, rows in asked.splits.items():
            assert found[split] == pytest.approx(np.mean(right, axis=0)[rows].mean())


def test_another_seed_is_another_ensemble(cell, small_store, measured):
    first, other = cell("ga"), replace(cell("ga"), seed=1)
    store = Store(small_store)
    for asked in (first, other):
        store.complete([(asked.original_id, 4)], asked.device)
    a, b = (store.held(asked.original_id).margins(4, CPU) for asked in (first, other))
    assert store.folder(other.original_id).relative_to(store.root).parts[0] == "seed_1"
    assert not np.isclose(a, b).all(1).any()


def test_outputs_of_another_shape_are_refused(measured):
    def flat(model, forget, retain):
        yield lambda x: model(x).flatten(1)

    with pytest.raises(KlomError, match=r"flat made outputs of shape \(4, \d+\), where logits"):
        measured(flat)

    def one_for_all(model, forget, retain):
        yield lambda x: 2 * model(x)[:1]

    with pytest.raises(KlomError, match=r"outputs of shape \(1, 1797, 10\)"):
        measured(one_for_all)


def test_changing_the_model_leaves_the_originals_of_the_next_test_alone(measured):
    def zero(model, forget, retain):
        with torch.no_grad():
            for p in model.parameters():
                p.zero_()
        yield

    before = measured("do_nothing").points
    measured(zero)
    np.testing.assert_array_equal(measured("do_nothing").points, before)


def test_an_exception_of_a_method_is_its_own(measured):
    def broken(model, forget, retain):
        raise ZeroDivisionError("mine")
        yield

    with pytest.raises(ZeroDivisionError, match="mine"):
        measured(broken)


def test_each_ensemble_is_looked_up_once(cell, small_store):
    """What is complete is handed on: nothing is read again from the folders of others."""

    class Counting(Store):
        def held(self, ensemble):
            seen.append(ensemble.label)
            return super().held(ensemble)

    seen = []
    asked, store = cell("ga", members=4), Counting(small_store)
    measure(asked, store)
    seen.clear()
    measure(asked, store)
    assert sorted(seen) == ["oracles of forget_set_3", "originals of digits"]
