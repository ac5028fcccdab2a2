"""What a page says first, in sentences: what was asked, what came out, and what was not tried."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from klom_bench.cell.gates import MARGINS
from klom_bench.cell.record_json import OfTest, RecordJson, name_of
from klom_bench.errors import visible
from klom_bench.metrics.word import CANNOT
from klom_bench.report.beside import left_over
from klom_bench.report.page.counting import all_of, counted, each, from_to, so_many, some_of
from klom_bench.report.page.facts import facts
from klom_bench.report.page.scope import not_tested, sentence, sure, tested
from klom_bench.report.remarks import VERDICTS, together
from klom_bench.report.runs import SavedRun
from klom_bench.report.table import named

MEANINGS = {
    "like a retrain": "nothing tells its models from retrained ones",
    "forgets, keeps the rest": "most of the influence of the forget set is gone, and nothing else "
    "is broken",
    "forgets in part": "some of the influence of the forget set is gone",
    "no better than doing nothing": "what it did does not matter",
    "breaks the rest": "on points that were to be kept, or on new ones, its models are further "
    "from retrained ones than if nothing had been done",
    CANNOT: "models that forgot nothing are near the retrained ones, too, or there are too few "
    "models",
    "unlike a retrain": "its models can be told from retrained ones; those they came from are not "
    "known",
}
"""Of words, for somebody who reads them for the first time."""
FEW_ROWS = 12
"""So many are named one by one; of more, methods are counted."""
FEW_NAMES = 8


@dataclass(frozen=True)
class Told:
    """A word, what it means, how many rows have it, and which."""

    word: str
    meaning: str
    count: int
    who: tuple[str, ...]


@dataclass(frozen=True)
class FirstScreen:
    """Sentences, and facts by name.

    wrong: what failed before it was scored, and why. tested, not_tested, sure: each a sentence.
    """

    title: str
    summary: str
    asked: tuple[str, ...]
    words: tuple[Told, ...]
    gates: tuple[str, ...]
    wrong: tuple[tuple[str, str], ...]
    tested: tuple[str, ...]
    not_tested: tuple[str, ...]
    sure: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


def first_screen(
    run: SavedRun, runs: Sequence[SavedRun], failures: Mapping[str, str]
) -> FirstScreen:
    """Of a run, which was made of these.

    failures: what is known of tests that failed, by test.
    """
    records = run.records
    return FirstScreen(
        title=_title(run),
        summary=_summary(run),
        asked=tuple(_asked(records)),
        words=tuple(_words(records)),
        gates=(*_gates(records), *_unfit(run)),
        wrong=tuple(_wrong(run, failures)),
        tested=tuple(tested(records)),
        not_tested=tuple(not_tested(records)),
        sure=tuple(sure(records)),
        facts=tuple(facts(records, runs)),
    )


def _title(run: SavedRun) -> str:
    tasks = each(row["task"] for row in (*run.rows, *run.failed))
    if tasks == [MARGINS]:
        return "Unlearning, measured from margins"
    return f"Unlearning on {all_of(tasks)}" if tasks else "Unlearning"


def _summary(run: SavedRun) -> str:
    """One sentence: what came out."""
    records = run.records
    if not records:
        return "Nothing was measured."
    red = sum(record["verdict"] in ("fail", "inconclusive") for record in records)
    gated = sum(record["verdict"] != "none" for record in records)
    failed = f" {red} of {so_many(gated, 'test')} with limits failed." if red else ""
    counts = Counter[str](record["word"] for record in records)
    if len(records) == 1:
        (record,) = records
        return f"{visible(named(record))} on {record['forget_set']}: {_word(record)}.{failed}"
    parts = [f"{counts[word]} {word}" for word in MEANINGS if counts[word]]
    idle = sum(record["method"] == "do_nothing" for record in records)
    among = f" ({idle} of them do nothing, to compare with)" if idle else ""
    return f"{len(records)} tests{among}: {', '.join(parts)}.{failed}"


def _asked(records: Sequence[RecordJson]) -> Iterator[str]:
    cells = [r for r in records if r["task"] != MARGINS]
    if cells:
        methods, sets = each(map(_method, cells)), each(r["forget_set"] for r in cells)
        n, m = from_to(r["members"]["unlearned"] for r in cells), from_to(_oracles(cells))
        yield (
            f"Trained models of {all_of(each(r['task'] for r in cells))} were to forget some of "
            f"the points that they were trained on: {counted(sets, 'forget set')}, each by itself, "
            f"by {counted(methods, 'method')}. A method was given {n} trained models, the "
            "originals."
        )
        yield (
            "The right answer is known: models that are trained again, without these points. "
            f"{m} such models, the oracles, were trained for each forget set, and what a method "
            "made of the originals was compared with them. A perfect method makes models that "
            "cannot be told from the oracles."
        )
    if given := [r for r in records if r["task"] == MARGINS]:
        n, m = from_to(r["members"]["unlearned"] for r in given), from_to(_oracles(given))
        yield (
            f"{counted(each(r['forget_set'] for r in given), 'test')} scored margins that were "
            f"computed elsewhere: of {n} unlearned models against {m} models that are said to be "
            "retrained without the forget set. How these were trained is not known here."
        )


def _words(records: Sequence[RecordJson]) -> Iterator[Told]:
    """Every word that was given, the best first."""
    for word, meaning in MEANINGS.items():
        mine = [record for record in records if record["word"] == word]
        if mine:
            yield Told(word, meaning, len(mine), tuple(_who(mine, records)))


def _who(mine: Sequence[RecordJson], records: Sequence[RecordJson]) -> Iterator[str]:
    if len(records) <= FEW_ROWS:
        for r in mine:
            left = left_over(r)
            more = f" ({left} left over)" if left.endswith("%") or "±" in left else ""
            doubt = ", provisional" * r["word_is_provisional"]
            yield f"{visible(named(r))} on {r['forget_set']}{more}{doubt}"
        return
    tried = Counter(map(named, records))
    counts = Counter(map(named, mine)).most_common()
    for name, count in counts[:FEW_NAMES]:
        yield f"{visible(name)} ({count} of {tried[name]})"
    if len(counts) > FEW_NAMES:
        yield f"{len(counts) - FEW_NAMES} more"


def _gates(records: Sequence[RecordJson]) -> Iterator[str]:
    gates = Counter(gate["verdict"] for record in records for gate in record["gates"])
    if not records:
        return
    if not gates:
        yield "No limit was set, so no test could fail by its numbers: nothing is asserted here."
        return
    tests = sum(bool(record["gates"]) for record in records)
    yield (
        f"{so_many(gates.total(), 'limit')} on {so_many(tests, 'test')}: {gates['pass']} kept, "
        f"{gates['fail']} exceeded, {gates['inconclusive']} inconclusive."
    )
    red = [r for r in records if r["verdict"] in ("fail", "inconclusive")]
    if red:
        tests_red = some_of([f"{visible(named(r))} on {r['forget_set']}" for r in red], FEW_ROWS)
        yield f"Failed: {tests_red}."
    if gates["inconclusive"]:
        yield (
            "Inconclusive: the number is too near its limit to say, or even a perfect method might "
            "exceed the limit with so few models. Such a test fails, too."
        )
    if without := sum(not record["gates"] for record in records):
        yield f"{so_many(without, 'test')} had no limit: nothing is asserted of them."
    if gates["pass"]:
        yield (
            "A limit that is kept says that a number is not above it; whether a method forgets, "
            "the words say."
        )
    yield from map(sentence, together(records))


def _unfit(run: SavedRun) -> Iterator[str]:
    reasons = Counter(row["unfit"] for row in run.rows if "unfit" in row)
    for why, count in reasons.items():
        yield f"{so_many(count, 'test')} skipped, where a method does not apply: {visible(why)}."


def _wrong(run: SavedRun, failures: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What failed, or could not be, and why: tests of one reason together."""
    reasons: dict[str, list[str]] = {}
    unknown = {name_of(test): "it ended before it was scored" for test in run.failed}
    for test, reason in {**unknown, **failures}.items():
        reasons.setdefault(reason, []).append(test)
    for reason, tests in reasons.items():
        yield some_of(tests, FEW_NAMES), reason


def _word(record: RecordJson) -> str:
    verdict = VERDICTS.get(record["verdict"], record["verdict"])
    doubt = " (provisional: too few models to be sure)" * record["word_is_provisional"]
    return f"{record['word']}{doubt}; {verdict}"


def _method(record: OfTest) -> str:
    return record["method"]


def _oracles(records: Iterable[RecordJson]) -> list[int]:
    return [record["members"]["oracle"] for record in records]
