"""Every published layout, written here by hand from the specification, read by the store."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from slow_klom import SLOW

from klom_bench.ensemble.ensemble import Ensemble, initial_state
from klom_bench.errors import KlomError
from klom_bench.forget_set import checked_forget_set
from klom_bench.metrics.klom import klom
from klom_bench.published.ensemble import PublishedEnsemble
from klom_bench.store.store import Store
from klom_bench.tasks import BUILT_IN
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.task import Data

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
LABELS = torch.from_numpy(RNG.integers(0, 10, 60_000))
ONE = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
CIFAR10 = replace(
    BUILT_IN["cifar10"],
    # Only labels matter here: images take no memory.
    load=lambda: Data(
        ONE.expand(50_000, -1, -1, -1),
        LABELS[:50_000],
        ONE.expand(10_000, -1, -1, -1),
        LABELS[50_000:],
        prepare=torch.Tensor.float,
    ),
)
F = CIFAR10.forget_set("forget_set_3")
ORIGINALS = EnsembleId(CIFAR10, "original", 0)
ORACLES = EnsembleId(CIFAR10, "oracle", 0, F)
N = 3
LOGITS = {e: RNG.normal(0, 3, (N, 60_000, 10)).astype(np.float32) for e in (ORIGINALS, ORACLES)}


def slow_margins(logits):
    """m = z_y - log sum of exp of the others, in double precision."""
    z = logits.astype(np.float64)
    true = np.take_along_axis(z, LABELS.numpy()[None, :, None], 2)[..., 0]
    others = np.exp(z).sum(2) - np.exp(true)
    return true - np.log(others)


MARGINS = {e: slow_margins(z).astype(np.float32) for e, z in LOGITS.items()}
PARTS = {"train": slice(50_000), "val": slice(50_000, None)}


def put(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        torch.save(torch.from_numpy(np.ascontiguousarray(array)), path)


def card(root, ensemble, top="oracles"):
    """(a) logits of train and val, margins of val."""
    folder = root / ("full_models/CIFAR10" if ensemble is ORIGINALS else f"{top}/CIFAR10/{F.name}")
    for i in range(N):
        put(folder / f"{i}__val_margins_23.npy", MARGINS[ensemble][i, 50_000:])
        for part, rows in PARTS.items():
            put(folder / f"{part}_logits_{i}.pt", LOGITS[ensemble][i, rows])


def oracle_models(root, ensemble):
    """(b) as (a) below another name."""
    card(root, ensemble, "oracle_models")


def only_margins(root, ensemble):
    """(b) margins of all models in a file."""
    folder = root / "full_models/CIFAR10"
    if ensemble is ORACLES:
        folder = root / f"oracle_models/CIFAR10/only_margins/{F.name}"
    for part, rows in PARTS.items():
        put(folder / f"{part}_margins_all.pt", MARGINS[ensemble][:, rows])


def stacked_logits(root, ensemble):
    """(b) logits of all models in a file."""
    folder = root / "full_models/CIFAR10"
    if ensemble is ORACLES:
        folder = root / f"oracle_models/CIFAR10/{F.name}"
    for part, rows in PARTS.items():
        put(folder / f"{part}_logits_all.pt", LOGITS[ensemble][:, rows])


def epochs(root, ensemble, underscores="__"):
    """(b) logits at several epochs, the last of which counts."""
    folder = root / "full_models/CIFAR10"
    if ensemble is ORACLES:
        folder = root / f"oracle_models/CIFAR10/{F.name}"
    for i in range(N):
        for part, rows in PARTS.items():
            name = f"{i}__{part}_logits{underscores}"
            put(folder / f"{name}10.pt", np.zeros((2, 2), np.float32))
            put(folder / f"{name}15.pt", np.zeros((2, 2), np.float32))
            put(folder / f"{name}23.pt", LOGITS[ensemble][i, rows])


def one_underscore(root, ensemble):
    """(b) older files."""
    epochs(root, ensemble, "_")


def easydub(root, ensemble, kind="margins"):
    """(c) an array a model and region; an original's "retain" is all train points."""
    arrays = (MARGINS if kind == "margins" else LOGITS)[ensemble]
    for i in range(N):
        if ensemble is ORIGINALS:
            middle = "pretrain"
            regions = {"retain": np.arange(50_000), "forget_3": F.indices}
        else:
            middle = "oracle/forget_3"
            regions = {"retain": F.retain, "forget": F.indices}
        regions["val"] = np.arange(50_000, 60_000)
        for region, rows in regions.items():
            put(
                root / f"{kind}/cifar10/{middle}/{region}/resnet9/id_{i}_epoch_23.npy",
                arrays[i, rows],
            )


def easydub_logits(root, ensemble):
    """(c) logits."""
    easydub(root, ensemble, "logits")


LAYOUTS = [
    card,
    oracle_models,
    only_margins,
    stacked_logits,
    epochs,
    one_underscore,
    easydub,
    easydub_logits,
]


@pytest.mark.parametrize("write", LAYOUTS)
def test_margins_of_every_layout(tmp_path, write):
    """Margins as they are, or made of logits; and the published estimator on them, to 1e-12."""
    for ensemble in (ORIGINALS, ORACLES):
        write(tmp_path, ensemble)
    store = Store(tmp_path, "error")
    held = {e: store.held(e) for e in (ORIGINALS, ORACLES)}
    found = {e: h.margins_of(h.scored, CPU) for e, h in held.items()}
    for ensemble, margins in found.items():
        assert isinstance(held[ensemble], PublishedEnsemble)
        assert margins.dtype == np.float32
        if write not in (only_margins, easydub):  # made of logits
            np.testing.assert_allclose(margins, MARGINS[ensemble], rtol=0, atol=5e-6)
        else:
            assert np.array_equal(margins, MARGINS[ensemble])
    assert store.held(ORACLES).lacks(N) == 0
    store.complete([(ORACLES, N)], CPU)  # nothing to train, nothing written
    some = [0, 1, *F.indices[:3], 49_999, 50_000, 59_999]
    for name in ("data_unlearning_bench", "easydub", "default"):
        fast = klom(found[ORACLES], found[ORIGINALS], name)[some]
        slow = [SLOW[name](found[ORACLES][:, j], found[ORIGINALS][:, j]) for j in some]
        np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-12)
    assert not list(tmp_path.rglob("manifest.json"))


@pytest.mark.parametrize("write", [card, stacked_logits, easydub_logits])
def test_accuracies_come_from_logits(tmp_path, write):
    write(tmp_path, ORACLES)
    right = LOGITS[ORACLES].argmax(-1) == LABELS.numpy()
    found = Store(tmp_path, "error").held(ORACLES).accuracy(N)
    assert found["forget"] == pytest.approx(right[:, F.indices].mean())
    assert found["retain"] == pytest.approx(right[:, F.retain].mean())
    assert found["val"] == pytest.approx(right[:, 50_000:].mean())


def test_margins_are_preferred_to_logits(tmp_path):
    for write in (stacked_logits, only_margins):
        write(tmp_path, ORACLES)
    assert np.array_equal(Store(tmp_path).held(ORACLES).margins(N, CPU), MARGINS[ORACLES])


def test_of_two_places_the_first_counts(tmp_path):
    """`oracles/` before `oracle_models/`."""
    card(tmp_path, ORACLES)
    oracle_models(tmp_path, ORACLES)
    for file in (tmp_path / "oracle_models").rglob("*margins*"):
        np.save(file, np.load(file) + 1)
    assert np.array_equal(
        Store(tmp_path).held(ORACLES).margins(N, CPU)[:, 50_000:], MARGINS[ORACLES][:, 50_000:]
    )


def test_half_precision_is_widened_first(tmp_path):
    folder = tmp_path / f"oracle_models/CIFAR10/{F.name}"
    for part, rows in PARTS.items():
        put(folder / f"{part}_logits_all.pt", LOGITS[ORACLES][:, rows].astype(np.float16))
    expected = slow_margins(LOGITS[ORACLES].astype(np.float16))
    np.testing.assert_allclose(
        Store(tmp_path).held(ORACLES).margins(N, CPU), expected, rtol=0, atol=5e-6
    )


def test_old_torch_files_are_read(tmp_path):
    only_margins(tmp_path, ORACLES)
    for file in tmp_path.rglob("*.pt"):
        torch.save(torch.load(file), file, _use_new_zipfile_serialization=False)
    assert np.array_equal(Store(tmp_path).held(ORACLES).margins(N, CPU), MARGINS[ORACLES])


# Checkpoints: of the task `digits`, whose models are small and whose data are here.

DIGITS = BUILT_IN["digits"]
SMALL = EnsembleId(DIGITS, "original", 0)
STATES = [initial_state(DIGITS.architecture, seed) for seed in range(4)]


def expected_margins():
    data, rows = DIGITS.data, []
    for state in STATES:
        net = DIGITS.architecture()
        net.load_state_dict(state)
        z = net(torch.cat([data.x_train, data.x_val])).detach().double()
        true = z.gather(1, data.y()[:, None])[:, 0]
        rows.append(true - (z.exp().sum(1) - true.exp()).log())
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "model.module.", "module.model."])
@pytest.mark.parametrize(
    "name",
    [
        "full_models/DIGITS/sd_{}____epoch_19.pt",
        "full_models/DIGITS/sd_{}_epoch_19.pt",
        "models/digits/pretrain/mlp/id_{}_epoch_19.pt",
    ],
)
def test_checkpoints_whatever_their_prefix(tmp_path, prefix, name):
    for i, state in enumerate(STATES):
        path = tmp_path / name.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({prefix + key: value for key, value in state.items()}, path)
    store = Store(tmp_path, "error")
    for found, state in zip(store.held(SMALL).states(4), STATES, strict=True):
        assert all(torch.equal(found[key], value) for key, value in state.items())
    np.testing.assert_allclose(
        store.held(SMALL).margins(4, CPU), expected_margins(), rtol=0, atol=1e-5
    )
    assert [p.name for p in store.held(SMALL).checkpoints(1)] == [name.rpartition("/")[2].format(0)]


@pytest.fixture
def checkpoints(tmp_path):
    """A store with four originals of digits; spoil(i, state) writes another file for one."""
    folder = tmp_path / "full_models/DIGITS"
    folder.mkdir(parents=True)

    def spoil(i, content):
        torch.save(content, folder / f"sd_{i}____epoch_19.pt")

    for i, state in enumerate(STATES):
        spoil(i, state)
    return Store(tmp_path, "error"), folder, spoil


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({k: v for k, v in STATES[0].items() if k != "2.bias"}, r"2\.bias is missing"),
        ({**STATES[0], "4.weight": torch.zeros(1)}, r"4\.weight is unknown"),
        ({**STATES[0], "2.bias": torch.zeros(17)}, r"2\.bias is \[17\], not \[10\]"),
        ({**STATES[0], "2.bias": 3.0}, r"2\.bias is no tensor of floating point"),
        ({f"encoder.{k}": v for k, v in STATES[0].items()}, r"0\.weight is missing"),
        (torch.zeros(3), "holds a Tensor: a state dict is expected"),
        ({"0.weight": Evil()}, "is refused: it holds pickled objects, which could run code"),
    ],
)
def test_checkpoints_that_do_not_fit_are_named(checkpoints, content, message):
    store, _, spoil = checkpoints
    spoil(2, content)
    with pytest.raises(KlomError, match=f"sd_2____epoch_19.*{message}"):
        store.held(SMALL).states(4)


def test_a_truncated_checkpoint_is_named(checkpoints):
    store, folder, _ = checkpoints
    file = folder / "sd_1____epoch_19.pt"
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(KlomError, match=r"sd_1____epoch_19\.pt cannot be read: is it whole\?"):
        store.held(SMALL).states(4)


def test_members_missing_in_the_middle_are_named(checkpoints):
    store, folder, _ = checkpoints
    (folder / "sd_1____epoch_19.pt").unlink()
    assert store.held(SMALL).members == [0, 2, 3]
    assert len(store.held(SMALL).states(3)) == 3
    store.complete([(SMALL, 3)], CPU)  # the number 1 is not trained in its place
    assert not list(store.root.rglob("manifest.json"))
    message = "3 of 4 published originals .*missing in the middle: member 1.*ask for 3"
    with pytest.raises(KlomError, match=message):
        store.complete([(SMALL, 4)], CPU)


@pytest.mark.parametrize("missing", ["train", "download", "error"])
def test_nothing_is_trained_into_a_published_folder(checkpoints, missing):
    store, folder, _ = checkpoints
    before = {f: f.read_bytes() for f in folder.iterdir()}
    with pytest.raises(KlomError, match="4 of 5 published originals"):
        Store(store.root, missing).complete([(SMALL, 5)], CPU)
    assert {f: f.read_bytes() for f in folder.iterdir()} == before


def test_other_epochs_only_are_said(tmp_path):
    folder = tmp_path / "oracles/DIGITS/forget_set_3"
    folder.mkdir(parents=True)
    (folder / "sd_0____epoch_10.pt").write_bytes(b"")
    oracles = EnsembleId(DIGITS, "oracle", 0, DIGITS.forget_set("forget_set_3"))
    with pytest.raises(KlomError, match="holds files but no manifest"):
        Store(tmp_path, "error").complete([(oracles, 2)], CPU)


def test_two_families_are_never_mixed(tmp_path):
    """Train margins of one generation of oracles, val margins of another, are no member."""
    card(tmp_path, ORACLES)
    oracle_models(tmp_path, ORACLES)
    for file in (tmp_path / "oracles").rglob("train_logits_*"):
        file.unlink()
    for file in (tmp_path / "oracle_models").rglob("val_logits_*"):
        file.unlink()
    for file in (tmp_path / "oracle_models").rglob("*__val_margins_*"):
        file.unlink()
    assert Store(tmp_path).held(ORACLES).scored == []


def test_another_architecture_s_folder_is_left_alone(tmp_path):
    easydub(tmp_path, ORACLES)
    for folder in list((tmp_path / "margins").rglob("resnet9")):
        other = folder.with_name("a_cnn")
        other.mkdir()
        for file in folder.iterdir():
            np.save(other / file.name, np.load(file) + 9)
    assert np.array_equal(Store(tmp_path).held(ORACLES).margins(N, CPU), MARGINS[ORACLES])


def test_two_files_of_one_member_are_an_error(tmp_path):
    easydub(tmp_path, ORACLES)
    folder = tmp_path / "margins/cifar10/oracle/forget_3/val/resnet9"
    np.save(folder / "id_01_epoch_23.npy", MARGINS[ORACLES][0, 50_000:])
    with pytest.raises(KlomError, match="it is not known which counts"):
        Store(tmp_path).held(ORACLES)


def test_forget_arrays_are_in_the_order_of_the_file_of_indices(tmp_path):
    """Set 10's file is not sorted."""
    given = np.random.default_rng(0).permutation(F.indices)
    unsorted = checked_forget_set(F.name, given, 50_000)
    easydub(tmp_path, ORACLES)
    for i in range(N):
        path = tmp_path / f"margins/cifar10/oracle/forget_3/forget/resnet9/id_{i}_epoch_23.npy"
        np.save(path, MARGINS[ORACLES][i, given])
    found = Store(tmp_path).held(replace(ORACLES, forget_set=unsorted)).margins(N, CPU)
    assert np.array_equal(found, MARGINS[ORACLES])


def test_a_diverged_member_is_refused(tmp_path):
    only_margins(tmp_path, ORACLES)
    for part in PARTS:
        path = tmp_path / f"oracle_models/CIFAR10/only_margins/{F.name}/{part}_margins_all.pt"
        margins = torch.load(path)
        margins[1] *= 1000
        torch.save(margins, path)
        with pytest.raises(KlomError, match="member 1 is far from the others"):
            Store(tmp_path).held(ORACLES).margins(N, CPU)


def test_retain_only_files_beside_checkpoints_are_left_aside(checkpoints):
    store, folder, _ = checkpoints
    forget_set = DIGITS.forget_set("forget_set_3")
    oracles = EnsembleId(DIGITS, "oracle", 0, forget_set)
    target = store.root / "oracles/DIGITS/forget_set_3"
    target.mkdir(parents=True)
    for i in range(4):
        (target / f"sd_{i}____epoch_19.pt").write_bytes(
            (folder / f"sd_{i}____epoch_19.pt").read_bytes()
        )
        np.save(target / f"{i}__train_margins_19.npy", np.zeros(1338, np.float32))
    np.testing.assert_allclose(
        store.held(oracles).margins(4, CPU), expected_margins(), rtol=0, atol=1e-5
    )


def test_retain_only_margins_are_told_from_whole_ones(tmp_path):
    folder = tmp_path / f"oracle_models/CIFAR10/only_margins/{F.name}"
    put(folder / "train_margins_all.pt", MARGINS[ORACLES][:, F.retain])
    put(folder / "val_margins_all.pt", MARGINS[ORACLES][:, 50_000:])
    store = Store(tmp_path, "error")
    message = "49000 columns for 50000 train points, those of the retain set: nothing is known of"
    with pytest.raises(KlomError, match=message):
        store.complete([(ORACLES, N)], CPU)
    stacked_logits(tmp_path, ORACLES)  # with logits there is something to make margins of
    assert store.held(ORACLES).margins(N, CPU).shape == (N, 60_000)


@pytest.mark.parametrize(
    ("kind", "spoil", "message"),
    [
        ("logits", lambda a: a[:, :7], r"\(10000, 7\).*\(10000, 10\) is expected"),
        ("logits", lambda a: a[:100], r"\(100, 10\).*\(10000, 10\) is expected"),
        ("margins", lambda a: a[:100, 0], r"\(100,\).*\(10000,\) is expected: margins of val"),
        ("margins", lambda a: a[:, 0] * np.nan, "member 1 at point 50000 is nan"),
        ("margins", lambda a: np.array(list("a" * 10_000)), "numbers are expected"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, kind, spoil, message):
    if kind == "logits":
        easydub_logits(tmp_path, ORACLES)
    else:
        easydub(tmp_path, ORACLES)
    path = tmp_path / f"{kind}/cifar10/oracle/forget_3/val/resnet9/id_1_epoch_23.npy"
    np.save(path, spoil(LOGITS[ORACLES][1, 50_000:]))
    with pytest.raises(KlomError, match=message):
        Store(tmp_path, "error").held(ORACLES).margins(N, CPU)


@pytest.mark.parametrize("suffix", ["npy", "pt"])
def test_truncated_arrays_are_named(tmp_path, suffix):
    if suffix == "npy":
        easydub(tmp_path, ORACLES)
    else:
        card(tmp_path, ORACLES)
    file = next(p for p in sorted(tmp_path.rglob(f"*.{suffix}")) if "1" in p.stem)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(KlomError, match="cannot be read: is it whole"):
        Store(tmp_path, "error").held(ORACLES).margins(N, CPU)


def test_pickled_arrays_are_refused(tmp_path):
    easydub(tmp_path, ORACLES)
    path = tmp_path / "margins/cifar10/oracle/forget_3/val/resnet9/id_0_epoch_23.npy"
    np.save(path, np.array([Evil()]), allow_pickle=True)
    with pytest.raises(KlomError, match="is refused: it holds pickled objects"):
        Store(tmp_path, "error").held(ORACLES).margins(N, CPU)


def test_another_seed_is_never_published(tmp_path):
    only_margins(tmp_path, ORACLES)
    assert Store(tmp_path).held(replace(ORACLES, seed=1)).members == []


def test_loading_reads_each_byte_once(tmp_path):
    """As the kernel counts it, on real ResNet-9 checkpoints of 9 MB."""
    folder = tmp_path / "full_models/CIFAR10"
    only_margins(tmp_path, ORIGINALS)
    for i in range(N):
        torch.save(initial_state(CIFAR10.architecture, i), folder / f"sd_{i}____epoch_23.pt")
    held = Store(tmp_path, "error").held(ORIGINALS)
    held.states(1)  # imports what torch.load imports

    def read():
        with Path("/proc/self/io").open() as counters:
            return int(counters.readline().split()[1])

    before = read()
    states = held.states(N)
    size = sum(file.stat().st_size for file in held.checkpoints(N))
    assert size <= read() - before < 1.05 * size
    assert Ensemble(CIFAR10.architecture, states).states()[2].keys() == states[2].keys()
