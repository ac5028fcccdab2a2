"""What methods that move inputs ask of them."""

from klom_bench.ensemble.points import Points
from klom_bench.errors import KlomError


def refuse_whole_numbers(name: str, points: Points) -> None:
    """KlomError where inputs are whole numbers, as tokens are: nothing lies between them."""
    if not points.prepare(points.x[:1]).is_floating_point():
        raise KlomError(f"{name} moves inputs by small steps, and these are whole numbers")
