"""Fixtures: the cell of a test, the object that measures and checks it, methods."""

import re
from collections.abc import Callable
from traceback import walk_tb
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import pytest

from klom_bench.plugin.keys import CLOCK, OUTCOME, PROBLEM, RUN, Outcome

if TYPE_CHECKING:
    from klom_bench.cell.cell import Cell
    from klom_bench.cell.clock import Clock
    from klom_bench.cell.record import Record
    from klom_bench.cell.record_json import RecordJson
    from klom_bench.cell.variants import Variant
    from klom_bench.conformance.subject import Subject
    from klom_bench.found import Methods
    from klom_bench.methods.method import Method
    from klom_bench.metrics.estimate import EstimateJson

T = TypeVar("T")
SHAPES = r"shape|size|dimension|mat1 and mat2|expected target|broadcast|unpack|\b\d-?D\b"
"""What torch and Python say where a tensor has other dimensions than it should."""
BETWEEN = (
    "klom_bench.cell",
    "klom_bench.conformance",
    "klom_bench.ensemble.threads",
    "klom_bench.methods.method",
    "klom_bench.plugin",
    "pytest_benchmark",
    "concurrent.futures",
)
"""Modules that run a method, in whose frames nobody looks for its fault."""
OF_ONE_POINT = (
    "BatchNorm cannot be trained on a batch of one point: choose a batch_size that leaves no rest "
    "of one (also of the oracles' points), or let it be with freeze_batchnorm=true"
)
HINT = (
    "A method gets x [N, B, ...] and y [N, B] of N models at once: losses are in "
    "klom_bench (cross_entropy, kl); a function for one model is wrapped with klom_bench.per_model"
)


def plain_failures(work: Callable[[], T]) -> T:
    """A KlomError ends the test with its message; anything else shows where the method raised."""
    from klom_bench.errors import KlomError, visible_lines

    __tracebackhide__ = True
    try:
        return work()
    except KlomError as error:
        raise pytest.fail.Exception(visible_lines(str(error)), pytrace=False) from None
    except Exception as error:
        if "Expected more than 1 value per channel" in str(error):
            error.add_note(OF_ONE_POINT)
        elif _is_about_shapes(error):
            error.add_note(HINT)
        raise error.with_traceback(_from_method(error.__traceback__)) from None


def _is_about_shapes(error: Exception) -> bool:
    """Whether a batch of N models may be the cause, where a method was written for one."""
    if not isinstance(error, RuntimeError | ValueError | IndexError):
        return False
    frames = (frame.f_globals.get("__name__") for frame, _ in walk_tb(error.__traceback__))
    of_one = "klom_bench.methods.per_model" in frames
    return not of_one and re.search(SHAPES, str(error), re.IGNORECASE) is not None


def _from_method(traceback: TracebackType | None) -> TracebackType | None:
    """The part of a traceback below what runs methods: harness, threads, pytest-benchmark."""
    part = traceback
    while part and str(part.tb_frame.f_globals.get("__name__")).startswith(BETWEEN):
        part = part.tb_next
    return part or traceback


def _selected(request: pytest.FixtureRequest, label: str) -> "tuple[Method, Variant]":
    """The method of a test, which is the fixture of its name, and what is given for it."""
    from klom_bench.methods.method import method_of

    if problem := request.config.stash.get(PROBLEM, None):
        pytest.fail(problem, pytrace=False)
    variant = request.config.stash[RUN].variants[label]
    function = request.getfixturevalue(variant.method)
    return plain_failures(lambda: method_of(variant.method, function)), variant


def _start_clean(node: pytest.Item) -> None:
    """Forget what an earlier run of the same test left: plugins may run one that failed again."""
    node.stash[OUTCOME] = Outcome()
    kept = [p for p in node.user_properties if not str(p[0]).startswith("klom_")]
    node.user_properties = kept


@pytest.fixture
def klom_cell(
    request: pytest.FixtureRequest, klom_task: str, klom_forget_set: str, klom_method: str
) -> "Cell":
    """The (task, method, forget set) of this test."""
    _start_clean(request.node)
    (method, variant), run = _selected(request, klom_method), request.config.stash[RUN]
    cell = plain_failures(lambda: run.bench.cell(method, variant, klom_forget_set))
    if reason := cell.unfit:
        _skip(request.node, klom_task, klom_forget_set, method, variant, reason)
    return cell


def _skip(
    node: pytest.Item, task: str, forget_set: str, method: "Method", variant: "Variant", why: str
) -> NoReturn:
    """Leave a row that says why instead of a record."""
    node.stash[OUTCOME]["unfit"] = {
        "task": task,
        "forget_set": forget_set,
        "method": variant.method,
        "setting": variant.setting,
        "sees_oracles": method.sees_oracles,
        "rests_on": None,
        "unfit": why,
    }
    pytest.skip(why)


def properties(record: "RecordJson") -> list[tuple[str, Any]]:
    """Names and values for JUnit XML: verdict, word, every number and its interval.

    Plain values, for xdist.
    """
    from klom_bench.cell.gates import EXCESS, METRICS
    from klom_bench.cell.record_json import score_of

    test = record["retrained"]
    found: dict[str, Any] = {
        "verdict": record["verdict"],
        "word": record["word"],
        "retrained_p": test["p"] if test else None,
    }
    for metric in METRICS:
        found[metric] = score_of(record, metric)
        reverse, split, statistic = METRICS[metric]
        error: EstimateJson | None = record["errors"][split].get("reverse_" * reverse + statistic)
        if statistic == EXCESS:
            error = record["excess"].get(split)
        if error is not None:
            found |= {f"{metric}_low": error["low"], f"{metric}_high": error["high"]}
    return [(f"klom_{name}", "n/a" if v is None else v) for name, v in found.items()]


class KlomTest:
    """Measures a cell, records it, and holds it against the gates."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any) -> None:
        self._request, self._benchmark = request, benchmark
        self._run = request.config.stash[RUN]

    def measure(self, cell: "Cell") -> "Record":
        """Unlearn and score; pytest-benchmark times the unlearning alone."""
        __tracebackhide__ = True
        if "record" in self._request.node.stash.get(OUTCOME, Outcome()):
            pytest.fail("klom.measure was called before in this test: measure once a test")

        record = plain_failures(lambda: self._kept(self._measured(cell)))
        in_json, node = record.without_points().to_json(), self._request.node
        self._benchmark.extra_info["klom"] = in_json
        node.stash.setdefault(OUTCOME, Outcome())["record"] = in_json
        node.user_properties += properties(in_json)  # JUnit XML has them
        return record

    def _kept(self, record: "Record") -> "Record":
        """--klom-save-points."""
        if folder := self._run.options.save_points:
            from klom_bench.cell.point_scores import save_points

            save_points(folder, record)
        return record

    def _measured(self, cell: "Cell") -> "Record":
        from klom_bench.cell.measure import measure
        from klom_bench.plugin.progress import announce_on

        config, node = self._request.config, self._request.node
        marker: dict[str, Any] = {}
        for mark in reversed(list(node.iter_markers("klom"))):  # the closest one wins
            marker |= mark.kwargs
        limits = self._run.limits(cell.method.name, cell.forget_set.name, marker)
        return measure(cell, self._run.bench.store, self._timed, announce_on(config), limits)

    def _timed(self, unlearning: "Callable[[Clock], None]") -> None:
        clock = self._request.node.stash[CLOCK]
        self._benchmark.pedantic(lambda: unlearning(clock), rounds=1, iterations=1)

    def check(self, record: "Record") -> None:
        """Fail the test where a gate does not pass, or where there is no score."""
        from klom_bench.report.failure import failure

        if text := failure(record):
            pytest.fail(text, pytrace=False)


@pytest.fixture
def klom(request: pytest.FixtureRequest, benchmark: Any) -> KlomTest:
    """klom.measure(cell) -> record; klom.check(record)."""
    if RUN not in request.config.stash or "klom_cell" not in request.fixturenames:
        pytest.fail("a test with `klom` asks for `klom_cell`, too: it is what can be measured")
    return KlomTest(request, benchmark)


class Conformance:
    """Examines the method of a test."""

    def __init__(self, node: pytest.Item, subject: "Subject") -> None:
        self._node, self._subject = node, subject

    def check(self) -> None:
        """Fail the test where the method does not do what its docstring says."""
        from klom_bench.conformance.checks import complaints
        from klom_bench.report.failure import nonconformance

        __tracebackhide__ = True
        wrong = plain_failures(lambda: complaints(self._subject))
        self._node.stash.setdefault(OUTCOME, Outcome())["conforms"] = not wrong
        if wrong:
            pytest.fail(nonconformance(self._subject.method.name, wrong), pytrace=False)


@pytest.fixture
def klom_conformance(
    request: pytest.FixtureRequest, klom_task: str, klom_method: str
) -> Conformance:
    """klom_conformance.check(): whether the selected method does what it says."""
    from klom_bench.cell.cell import unfit_for
    from klom_bench.conformance.subject import Subject
    from klom_bench.tasks.checks import checked_model

    _start_clean(request.node)
    (method, variant), run = _selected(request, klom_method), request.config.stash[RUN]
    hyperparameters = plain_failures(lambda: run.bench.hyperparameters(method, variant))
    if reason := unfit_for(method, run.bench.task):
        _skip(request.node, klom_task, "", method, variant, reason)
    plain_failures(lambda: checked_model(run.bench.task, run.bench.device))
    subject = plain_failures(
        lambda: Subject(method, hyperparameters, run.bench.task, run.bench.device)
    )
    return Conformance(request.node, subject)


def methods_as_fixtures(methods: "Methods") -> ModuleType:
    """Built-in methods and those that were found; a fixture of the same name takes its place."""

    def fixture(name: str, load: "Callable[[], Method]") -> Any:
        @pytest.fixture(name=name, scope="session")
        def method() -> "Method":
            return plain_failures(load)

        return method

    module = ModuleType("klom_methods")  # pytest looks for fixtures in modules and classes only
    vars(module).update({name: fixture(name, load) for name, load in methods.items()})
    return module
