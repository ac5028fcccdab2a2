"""How many models are enough to compare; imports nothing heavy."""

from klom_bench.errors import KlomError

AUTO = "auto"
MOST = 100
"""Models at the last look, usually."""
LOOKS = 5
FEWEST = 5
"""At a first look: with fewer there is no excess."""


def refuse_one_model(name: str, count: int) -> None:
    """KlomError where there are fewer than two."""
    if count < 2:
        raise KlomError(
            f"{name} is {count}: KLOM compares distributions over models, it needs at least 2 (at "
            "10 a perfect unlearner still scores 6.0 in the mean; 100 is usual)"
        )


def looks_in(text: str, name: str) -> tuple[int, ...]:
    """The numbers of models of `100`, one; `auto`, `auto:200` (five equal steps), `auto:20,50,100`.

    KlomError for anything else.
    """
    word, colon, given = text.partition(":")
    parts = [part.strip() for part in given.split(",")] if colon else [str(MOST)]
    if word.strip() != AUTO:
        parts = [text.strip()]
    if not all(part.isdecimal() for part in parts):
        raise KlomError(
            f"{name} must be a number of models, {AUTO}, {AUTO}:MAXIMUM or {AUTO}:20,50,100; got "
            f"{text!r}"
        )
    numbers = [int(part) for part in parts]
    if word.strip() != AUTO:
        refuse_one_model(name, numbers[0])
        return (numbers[0],)
    if len(numbers) == 1:
        most = numbers[0]
        numbers = [-(-most * look // LOOKS) for look in range(1, LOOKS + 1)]
        numbers = [n for n in numbers if n >= min(FEWEST, most)]
    if numbers != sorted({*numbers}) or numbers[0] < FEWEST:
        raise KlomError(f"{name}: looks must be rising numbers from {FEWEST} on, got {text!r}")
    return tuple(numbers)
