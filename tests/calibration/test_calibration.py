"""The command's parts run with few repeats, and print what docs/calibration.md holds."""

import re

import numpy as np
import pytest
from calibration import (
    blind_spots,
    comparison,
    coverage,
    few,
    left_over,
    looks,
    nearness,
    perfect,
    triples,
)
from calibration.failures import FAILURES
from calibration.jobs import drawn, here
from calibration.pool import Pool
from calibration.pool_of_parts import SHARES, case_of, name_of
from calibration.sources import LAWS, REAL, Real, Simulated, seeded
from helpers.markdown import text_of

from klom_bench.plugin.pages import DOCS

PAGE = DOCS / "calibration.md"


@pytest.fixture(autouse=True)
def pool(monkeypatch):
    """Few points, few models; a method of every name."""
    rng = np.random.default_rng(0)
    splits = {"forget": np.arange(8), "retain": np.arange(8, 16), "val": np.arange(16, 24)}
    shift = 2.0 * np.repeat([1, 0], [8, 16])
    methods = sorted({*coverage.METHODS, *looks.METHODS})
    made = {m: rng.standard_normal((220, 24)) + shift for m in methods}
    monkeypatch.setitem(REAL, "digits", Pool(rng.standard_normal((220, 24)), made, splits))
    away = {"finetune": 1.0, "eu_k": 0.5}
    for name in triples.FORGET_SETS:
        oracles, originals = rng.standard_normal((2, 220, 24))
        made = {m: originals + away.get(m, 1.5) * (shift > 0) for m in triples.METHODS}
        made["do_nothing"] = originals + shift
        pool = Pool(oracles, made, splits)
        monkeypatch.setitem(REAL, triples.pool_of(name), pool)
        parts = {case_of(share): originals + share * shift for share in SHARES}
        pool = Pool(oracles, {"do_nothing": originals + shift, **parts}, splits)
        monkeypatch.setitem(REAL, name_of(name), pool)
    triples.all_of.cache_clear()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("klom_bench.metrics.resampling.DRAWS", 2)
    monkeypatch.setattr("klom_bench.metrics.permutation.KLOM_PERMUTATIONS", 5)
    monkeypatch.setattr(perfect, "PERMUTATIONS", 19)
    monkeypatch.setattr(few, "PERMUTATIONS", 19)


def tables(text):
    """Of a text: column names, and the cells of every row, a table."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        columns, _, *rows = (
            [c.strip() for c in line[1:-1].split("|")] for line in block.splitlines()
        )
        found.append((columns, rows))
    return found


def printed(capsys, part, *repeats):
    part(here, *repeats)
    return tables(capsys.readouterr().out)


def names(rows, count=1):
    return [row[:count] for row in rows]


def on_the_page():
    return {tuple(columns): rows for columns, rows in tables(text_of(PAGE))}


@pytest.mark.parametrize(
    ("part", "repeats", "words"),
    [
        (coverage.print_coverage, (2, 2), 1),
        (perfect.print_levels, (2,), 2),
        (perfect.print_floors, (2,), 2),
        (comparison.print_comparison, (2, 2), 1),
        (looks.print_looks, (2, 1), 1),
        (few.print_few, (2, 1), 1),
        (blind_spots.print_blind_spots, (1,), 1),
        (nearness.print_nearness, (2,), 1),
        (left_over.print_left_over, (2, 2), 1),
    ],
)
def test_the_page_has_the_tables_that_are_printed(capsys, part, repeats, words):
    """Columns, rows and their order; numbers are those of a full run."""
    page = on_the_page()
    found = printed(capsys, part, *repeats)
    assert found
    for columns, rows in found:
        assert names(page[tuple(columns)], words) == names(rows, words)
        assert all(len(row) == len(columns) for row in (*rows, *page[tuple(columns)]))


def test_the_page_says_how_many_repeats_there_were():
    text = " ".join(text_of(PAGE).split())
    counts = (coverage.REPEATS, perfect.TESTS, perfect.FLOORS, comparison.COSTLY)
    for repeats in (*counts, looks.REPEATS, looks.KLOM_REPEATS, few.REPEATS, few.TESTS):
        assert f"{repeats} repeats, Monte Carlo error" in text
    assert f"means of {blind_spots.REPEATS} repeats" in text


def test_bold_is_what_misses_its_promise():
    judged = 0
    for columns, rows in tables(text_of(PAGE)):
        for row in rows:
            for column, cell in zip(columns, row, strict=True):
                if promised := promise(row[0], column):
                    value = re.search(r"\d?\.\d+", cell)
                    if value is None:  # it is not told
                        continue
                    value = float(value.group())
                    assert ("**" in cell) != (promised[0] <= value <= promised[1]), (row, column)
                    judged += 1
    assert judged > 100


def test_bold_is_what_misses_its_promise_of_comparisons():
    judged = 0
    for columns, rows in tables(text_of(PAGE)):
        for row in rows:
            for column, cell in zip(columns[1:], row[1:], strict=True):
                if column.startswith(("paired, N", "unpaired, N")):
                    wrong, seen = (re.search(r"\*{0,2}(\d?\.\d+)", of) for of in cell.split(";"))
                    assert ("**" in wrong[0]) == (float(wrong[1]) > comparison.MOST_WRONG), cell
                    assert ("**" in seen[0]) == (float(seen[1]) < comparison.LEAST_SEEN), cell
                elif columns[0] == "methods":
                    hold = float(re.search(r"\d?\.\d+", cell).group())
                    assert ("**" in cell) == (hold < comparison.LEAST_COVERED), cell
                else:
                    continue
                judged += 1
    assert judged == 14 * 4 + 9 * 2 + 3 * 2


def test_two_runs_without_a_difference_share_all_but_a_tenth_each():
    (oracle, now), (same, before), (other, apart) = comparison.runs(Simulated("skewed"), 100, 3)
    assert oracle is same
    assert (now == before).all(1).sum() == 80
    assert not (oracle == other).all(1).any()
    assert not (now == apart).all(1).any()


def promise(margins, column):
    """Lowest and highest share; None where nothing is promised."""
    if column.startswith(("nearer, N", "farther, N")):
        return 0, nearness.MOST_WRONG
    held = ("interval of the share, N", "share held, N", "that of all held, N", "held, N")
    if column.startswith(("excess, N", "KLOM, mean, N", *held)):
        return coverage.LEAST_COVERED, 1
    if column.endswith((": fail", ": pass")):
        return 0, coverage.MOST_WRONG.get(margins.split(",")[0], coverage.MOST_WRONG_REAL)
    if column.endswith(": contradicted"):
        return 0, looks.MOST_CONTRADICTED
    if column == "all splits" or column.startswith(("energy: ", "outline: ")):
        return perfect.LEAST, perfect.MOST
    return (0, perfect.MOST) if column.startswith(("simulated: ", "permuted: ")) else None


@pytest.mark.parametrize("law", LAWS)
def test_laws_have_mean_0_and_sd_1_and_move_together(law):
    oracle, unlearned = Simulated(law, 2.0, whole=True).draw(seeded("law", law), 4000)
    assert oracle.mean() == pytest.approx(0, abs=0.05)
    assert oracle.std() == pytest.approx(1, abs=0.05)
    assert 0.1 < np.corrcoef(oracle[:, 0], oracle[:, 1])[0, 1] < 0.3
    moved = unlearned.mean(0)
    assert moved[:50].mean() > 1
    assert abs(moved[50:].mean()) < 0.1


@pytest.mark.parametrize("made", triples.EQUAL)
def test_designs_at_equal_distance_are(made):
    nothing, now = triples.OfPool("forget_set_2", made).excess
    assert now == pytest.approx(nothing)


def test_what_is_known_of_laws_is_true_of_many_models():
    case = triples.OfLaw("skewed", 1.0, -0.5)
    oracle, original, made = case.draw(seeded("law"), 20_000)
    found = [triples.divergence(oracle, x) for x in (original, made)]
    assert found == pytest.approx(case.excess, rel=0.1)
    together = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(original.T, made.T, strict=True)])
    assert together == pytest.approx(triples.TOGETHER, abs=0.02)
    assert case.line == -50


@pytest.mark.parametrize("kind", [0.0, *SHARES, 1.0])
def test_fresh_runs_share_no_model(kind, monkeypatch):
    """Each oracle and each pair is in one run of a partition."""
    seen = []
    monkeypatch.setattr(left_over, "leftover", lambda *three: seen.append(three))
    monkeypatch.setattr(left_over, "row", lambda found: [0, 0, 0])
    monkeypatch.setattr(left_over, "PARTITIONS", 1)
    count = len(left_over.fresh("forget_set_2", kind, 20))
    assert count == len(seen) == (5 if kind == 0 else 11)
    oracles = np.concatenate([three[0] for three in seen])
    after = np.concatenate([three[2] for three in seen])
    used = np.concatenate([oracles, after])
    assert len(np.unique(used, axis=0)) == len(used)
    for _, original, made in seen if kind else ():
        away = 2.0 * (1 - kind) * np.repeat([1, 0], [8, 16])
        np.testing.assert_allclose(original - made, np.broadcast_to(away, made.shape), atol=1e-9)


def test_a_repeat_is_the_same_whoever_works_on_it():
    key = (Simulated("skewed", 0.5), 10)
    whole = drawn(here, coverage.scores, [key], 3, 1)[key]
    last = coverage.scores(*key, range(2, 3), 1)
    assert np.array_equal(whole[2:], last, equal_nan=True)
    assert np.isfinite(whole[0]).all()
    assert not np.isfinite(whole[2]).all()
    assert not np.array_equal(whole[0, :1], whole[1, :1])


def test_perfect_unlearners_are_disjoint_from_what_they_are_scored_against():
    oracle, retrained = Real("retrain").draw(seeded("disjoint"), 110)
    assert len(np.unique(np.concatenate([oracle, retrained]), axis=0)) == 220


@pytest.mark.parametrize("method", coverage.METHODS)
def test_models_drawn_anew_may_be_there_twice(method):
    pool = REAL["digits"]
    oracle, unlearned = Real(method).draw_anew(seeded("anew"), 110)
    made = pool.oracles if method == "retrain" else pool.methods[method]
    for found, models in ((oracle, pool.oracles), (unlearned, made)):
        assert found.shape == (110, 24)
        rows = {row.tobytes() for row in found}
        assert rows <= {row.tobytes() for row in models}
        assert 60 < len(rows) < 110


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_one(name):
    """All but a retrain differ from it, in shape they do not; models they are made of stay."""
    models = blind_spots.models_of("digits", seeded("failures"), 40)
    before = models.retrained.copy()
    made = FAILURES[name](seeded("made", name), models)
    assert made.shape == models.retrained.shape
    assert np.array_equal(made, models.retrained) == (name == "retrain")
    assert np.array_equal(models.retrained, before)
