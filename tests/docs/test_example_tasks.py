"""The tasks in `docs/examples`, each in a folder of its own as a user has it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18

from klom_bench.methods import BUILT_IN
from klom_bench.plugin.pages import DOCS

pytestmark = pytest.mark.examples
EXAMPLES = DOCS / "examples"
TOLD = (
    "needs 2-d conv layers, and models",
    "needs classes, and",
    "moves inputs by small steps, and those of",
    "unlearns whole classes only, and the forget set is none",
)
"""Reasons for which a method does not apply."""


@pytest.fixture
def example(pytester):
    """example(name, *args): pytest on this task, and what it measured by method."""
    pytester.makepyfile(test_mine="from klom_bench.suite import test_conformance, test_klom")

    def run(name, *args):
        shutil.copy(EXAMPLES / f"{name}.py", pytester.path)
        (pytester.path / "pyproject.toml").write_text(f'[tool.klom]\ntasks = ["{name}:task"]\n')
        usual = (
            "-p",
            "no:cacheprovider",
            "-rs",
            "--benchmark-json=all.json",
            f"--klom-task={name}",
        )
        result = pytester.runpytest_inprocess(*usual, *args)
        file = Path(pytester.path / "all.json")
        tests = json.loads(file.read_text() or "{}").get("benchmarks", []) if file.exists() else []
        found = [t["extra_info"]["klom"] for t in tests if "klom" in t["extra_info"]]
        return result, {record["method"]: record for record in found}

    return run


def holds(result, records, methods):
    """Every method was measured, or is not applicable for a reason that is told."""
    assert result.ret == 0
    for record in records.values():
        for scores in record["scores"].values():
            assert all(value is not None and value >= 0 for value in scores.values())
    for name in set(methods) - {*records}:
        lines = [line for line in result.outlines if line.startswith(f"n/a: {name} ")]
        assert lines, name
        assert any(reason in lines[0] for reason in TOLD), lines


@pytest.mark.parametrize("name", ["breast_cancer", "reviews"])
def test_every_method_is_measured_or_says_why_not(example, name):
    result, records = example(name, "--klom-method=all", "--klom-models=4", "-k", "test_klom[")
    holds(result, records, BUILT_IN)
    assert len(records) >= 28


@pytest.mark.parametrize("name", ["breast_cancer", "reviews"])
def test_sound_methods_conform(example, name):
    five = "--klom-method=ga,finetune,l1_sparse,cf_k,ssd"
    result, _ = example(name, five, "-k", "test_conformance")
    result.assert_outcomes(passed=5, deselected=5)


@pytest.mark.parametrize("name", ["breast_cancer", "reviews"])
def test_two_runs_are_the_same_bits(example, name, pytester):
    ga, found = ("--klom-method=ga", "--klom-models=6", "-k", "test_klom["), []
    for number, more in enumerate(([], ["-n", "2"])):
        store = pytester.path / f"store_{number}"
        _, records = example(name, *ga, f"--klom-store={store}", *more)
        files = {p.relative_to(store): p.read_bytes() for p in store.rglob("*.npy")}
        found.append((records["ga"]["scores"], files))
    assert len(found[0][1]) >= 24
    assert found[0] == found[1]


def test_a_recurrent_network(example):
    methods = "ga,finetune,ssd,influence,fisher,scrub,eu_k,retrain"
    result, records = example(
        "rows", f"--klom-method={methods}", "--klom-models=3", "-k", "test_klom["
    )
    holds(result, records, methods.split(","))
    assert len(records) == 8


def test_a_pretrained_start(example, pytester):
    """The start knows digits that the task has not; then five methods."""
    from klom_bench.tasks.digits import DIGITS

    data = DIGITS.data
    torch.manual_seed(0)
    model = resnet18()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for rows in torch.arange(300, 1100).split(64):
        x = torch.nn.functional.interpolate(data.x_train[rows].view(-1, 1, 8, 8), size=32)
        optimizer.zero_grad()
        cross_entropy(model(x.expand(-1, 3, -1, -1)), data.y_train[rows]).backward()
        optimizer.step()
    torch.save(model.state_dict(), pytester.path / "resnet18.pt")
    methods = "ga,finetune,random_label,scrub,retrain"
    few = ("--klom-models=2", "--klom-param=finetune.epochs=2", "--klom-param=scrub.epochs=2")
    few = (*few, "--klom-param=random_label.epochs=2")
    result, records = example("pretrained", f"--klom-method={methods}", *few, "-k", "test_klom[")
    holds(result, records, methods.split(","))
    assert len(records) == 5
    assert records["retrain"]["accuracy"]["retain"] > 0.5  # of 10 classes, in two epochs


@pytest.mark.parametrize("name", ["diabetes", "properties"])
def test_numbers_and_several_labels(example, name):
    methods = "ga,gda,finetune,l1_sparse,ssd,influence,jit,retrain,random_label"
    result, records = example(
        name, f"--klom-method={methods}", "--klom-models=10", "-k", "test_klom["
    )
    holds(result, records, methods.split(","))
    assert {*records} == {*methods.split(",")} - {"random_label"}
    known = [value for r in records.values() for value in r["accuracy"].values()]
    assert all(value is None for value in known) == (name == "diabetes")


def test_the_first_is_short():
    lines = (EXAMPLES / "breast_cancer.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 40
