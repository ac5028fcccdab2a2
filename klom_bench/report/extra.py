"""What reports need beyond what every run needs."""

from importlib.util import find_spec

from klom_bench.errors import KlomError

NEEDED = ("matplotlib", "jinja2")


def refuse_without_extra(asked: str) -> None:
    """KlomError where a package of the extra `report` is missing, which `asked` needs."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise KlomError(
            f"{asked} needs {' and '.join(missing)}: pip install klom-bench[report]; "
            "tables (--format markdown, latex, csv) need nothing"
        )
