"""--klom-save-points, and records in files."""

import json

import jsonschema
import numpy as np
import pytest
from helpers.processes import WORKERS
from helpers.records import records

from klom_bench.cell.record import Record
from klom_bench.cli.help import pages_by_topic

ASKED = ("--klom-method=ga", "--klom-param=lr=0.1,0.3", "--klom-forget-set=1")


@pytest.mark.parametrize("workers", WORKERS)
def test_each_test_leaves_a_file_of_its_points(project, pytester, workers):
    asked = (*ASKED, "--klom-save-points=kept/points", "--benchmark-json=out.json", *workers)
    project(*asked, alone=bool(workers)).assert_outcomes(passed=2)
    folder = pytester.path / "kept" / "points"
    names = [f"digits-forget_set_1-ga-lr={lr}.npz" for lr in (0.1, 0.3)]
    assert sorted(path.name for path in folder.iterdir()) == names
    for name, content in zip(names, records(pytester.path / "out.json"), strict=True):
        found, record = np.load(folder / name), Record.from_json(content)
        for split, scores in record.scores.items():
            assert found["klom"][found[split]].mean() == pytest.approx(scores.mean)
            assert found["reverse"][found[split]].mean() == pytest.approx(
                record.reverse[split].mean
            )


def test_records_in_files_are_as_the_schema_says_and_hold_no_points(project, pytester):
    project(*ASKED, "--klom-max=val_p95=11", "--benchmark-json=out.json")
    validator = jsonschema.Draft202012Validator(json.loads(pages_by_topic()["schema"]))
    for content in records(pytester.path / "out.json"):
        validator.validate(content)
        assert content["per_point"] is None
        assert Record.from_json(content).to_json() == content


def test_a_folder_that_cannot_be_is_refused_at_once(project, pytester):
    (pytester.path / "file").touch()
    result = project(*ASKED, "--klom-save-points=file/below")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --klom-save-points: *below cannot be made (Not a dir*"])
    result = project("--klom-save-points=below")
    result.stderr.fnmatch_lines(["ERROR: --klom-save-points needs --klom-method*"])
