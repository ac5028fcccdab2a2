"""The hint about batches of N models: where their shape is the cause, and nowhere else."""

import pytest

METHOD = """
import klom_bench, pytest, torch
from torch.nn.functional import cross_entropy

@pytest.fixture
def mine():
    {decorator}
    def unlearn(model, forget, retain):
        for x, y in forget.batches(16):
            {line}
        {end}
    return unlearn
"""
HINT = "*A method gets x [[]N, B, ...] and y [[]N, B] of N models at once*"


@pytest.mark.parametrize(
    "line",
    [
        "cross_entropy(model(x), y).backward()",
        "b, features = x.shape",
    ],
)
def test_where_the_shape_of_a_batch_is_the_cause(project, line):
    conftest = METHOD.format(decorator="", line=line, end="yield")
    result = project("--klom-method=mine", "--klom-forget-set=3", conftest=conftest)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([HINT])


@pytest.mark.parametrize(
    ("decorator", "line"),
    [
        ("@klom_bench.per_model", "x @ torch.ones(3, 3)"),
        ("", "{}['momentum']"),
        ("", "x.double() @ torch.ones(64, 2)"),
        ("", "raise NotImplementedError('Batching rule not implemented for aten::gru.input')"),
    ],
)
def test_nowhere_else(project, decorator, line):
    conftest = METHOD.format(decorator=decorator, line=line, end="pass" if decorator else "yield")
    result = project("--klom-method=mine", "--klom-forget-set=3", conftest=conftest)
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line(HINT)
