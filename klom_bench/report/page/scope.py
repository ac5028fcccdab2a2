"""What was tested, what was not, and how sure it is, in sentences."""

from collections.abc import Iterator, Sequence

from klom_bench.cell.gates import MARGINS
from klom_bench.cell.record_json import RecordJson
from klom_bench.metrics.summary import SPLITS
from klom_bench.metrics.word import SETTLED
from klom_bench.report.beside import of_all
from klom_bench.report.page.counting import all_of, each, from_to, so_many, some_of
from klom_bench.report.remarks import FAR, looked, says_nothing, too_few


def tested(records: Sequence[RecordJson]) -> Iterator[str]:
    """Models, points and numbers."""
    if not records:
        return
    n = from_to(record["members"]["unlearned"] for record in records)
    m = from_to(record["members"]["oracle"] for record in records)
    yield (
        f"For each test {n} unlearned models were held against {m} retrained ones, by their "
        "margins: how surely each model gives the right answer, at every point."
    )
    forget, retain, val = (from_to(r["points"][split] for r in records) for split in SPLITS)
    yield (
        f"Three groups of points: {forget} that were to be forgotten (forget), {retain} that were "
        f"trained on and were to be kept (retain), {val} that no model was trained on (val)."
    )
    yield (
        "Excess is 0 for a perfect method, however many models there are. KLOM is a divergence in "
        f"nats, and even a perfect method does not reach 0: {_floor(records[0])}."
    )
    yield (
        "Beside these accuracy, the time of unlearning, its cost beside a retraining, and whether "
        "all models together could be retrained ones (a permutation test)."
    )


def not_tested(records: Sequence[RecordJson]) -> Iterator[str]:
    """What nobody may read into it."""
    tasks = [name for name in each(r["task"] for r in records) if name != MARGINS]
    if tasks:
        sets, seeds = (each(str(r[key]) for r in records) for key in ("forget_set", "seed"))
        yield (
            "Other models and other trainings: all models are of the architecture and the training "
            f"of {all_of(tasks)}. Another architecture, size or data set may give another answer."
        )
        yield (
            f"Other forget sets: only {some_of(sets)}, each forgotten by itself, never one after "
            "the other."
        )
        yield (
            f"Other seeds: each model has its own, all of them made from seed {all_of(seeds)}, and "
            "each forget set is one choice of points."
        )
    else:
        yield "Other models, trainings and forget sets than those whose margins were given."
    yield (
        "What models hold inside: only what they say was compared. Representations of the "
        "forgotten points may still be there."
    )
    yield (
        "Attacks: nobody tried to bring the points back, by training the unlearned models further "
        "or from their weights."
    )
    yield (
        "Points beyond these three groups: whether anything else was lost, on other inputs or "
        "other skills, is not known. Nor was it asked whether a concept is gone, only the "
        "influence of given points."
    )
    yield "That no difference is seen is no proof that there is none."


def sure(records: Sequence[RecordJson]) -> Iterator[str]:
    """How far words and numbers can be trusted."""
    if not records:
        return
    provisional = sum(record["word_is_provisional"] for record in records)
    if provisional:
        yield (
            f"{so_many(provisional, 'word')} of {len(records)} {_are(provisional)} provisional "
            f"(marked ?): with fewer than {SETTLED} models a side more than one in twenty may be "
            "wrong."
        )
    if provisional < len(records):
        yield (
            f"From {SETTLED} models a side on a word is wrong in at most one of twenty runs, in "
            "all but two of the cases that were tried (klom help calibration)."
        )
    yield _of_the_floor(records)
    yield "± is half of a 95 % interval: so much may a number differ by the luck of the models."
    yield from map(sentence, of_all(records))
    yield from map(sentence, looked(records))
    if any(record["sees_oracles"] for record in records):
        yield "*: the method sees the oracles that it is scored against, so it is an upper bound."
    if rests := each(str(r["rests_on"]) for r in records if r["rests_on"]):
        yield (
            f"+: the method rests on {all_of(rests)} more models, trained on random halves, which "
            "are not in its cost."
        )


def sentence(line: str) -> str:
    """A line of the terminal as a sentence."""
    return f"{line[0].upper()}{line[1:]}".rstrip(".") + "."


def _of_the_floor(records: Sequence[RecordJson]) -> str:
    """Whether KLOM says anything at this N."""
    if silent := [record for record in records if says_nothing(record)]:
        return f"{sentence(too_few(silent[0]))} This holds for {so_many(len(silent), 'test')}."
    if all(map(_has_room, records)):
        return (
            "KLOM has room here: what a perfect method scores lies well below what models score "
            "that are nowhere near the oracles."
        )
    return (
        "What a perfect method scores is a good part of what models score that are nowhere near "
        "the oracles, so KLOM tells large differences only; excess has no such floor."
    )


def _has_room(record: RecordJson) -> bool:
    usual, most = (of["forget"]["p95"] for of in (record["floor"], record["nowhere"]))
    return usual is not None and most is not None and usual <= FAR * most


def _floor(record: RecordJson) -> str:
    """What the ends of the scale are, of one record."""
    usual, most = (of["forget"]["p95"] for of in (record["floor"], record["nowhere"]))
    if usual is None or most is None:
        return "it has a floor"
    return (
        f"with {record['members']['unlearned']} models it scores {usual:.2f} on average (P95), and "
        f"models that are nowhere near the oracles {most:.2f}"
    )


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
