"""Several gates judged together, so that a whole run is as rarely wrong as one gate would be.

Each gate claims that its number is above its limit (fail) or below (pass). Holm: the surest of m
claims is made where it is as sure as one of m must be, the next as one of m - 1, and so on until
one is not; this and the rest stay open. Then all claims are right with the confidence asked for.

Source: Holm (1979).
"""

from collections.abc import Sequence
from dataclasses import replace

from klom_bench.cell.limits import sure_of
from klom_bench.cell.record import Record


def judged_together(records: Sequence[Record], confidence: float) -> list[Record]:
    """The records, with all their gates that have an error judged as one family."""
    places = [
        (i, j)
        for i, record in enumerate(records)
        for j, gate in enumerate(record.gates)
        if gate.family > 1
    ]
    places.sort(key=lambda place: records[place[0]].gates[place[1]].doubt)
    gates, closed = [[*record.gates] for record in records], False
    left = len(places)
    for i, j in places:
        looks, gate = records[i].looks, gates[i][j]
        sure = sure_of(gate.metric, looks.sizes if looks else (), left, confidence)
        gates[i][j] = replace(gate, confidence=sure)
        closed = closed or gates[i][j].verdict == "inconclusive"
        left -= not closed
    return [replace(r, gates=tuple(of)) for r, of in zip(records, gates, strict=True)]
