"""How many models are enough to compare; imports nothing heavy."""

from klom_bench.errors import KlomError


def refuse_one_model(name: str, count: int) -> None:
    """KlomError where there are fewer than two."""
    if count < 2:
        raise KlomError(
            f"{name} is {count}: KLOM compares distributions over models, it needs at least 2 (at "
            "10 a perfect unlearner still scores 6.0 in the mean; 100 is usual)"
        )
