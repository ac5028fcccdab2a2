"""How sure gates must be: option, ini value, pyproject.toml."""

import pytest

ASKED = ("--klom-method=ga", "--klom-forget-set=3", "--klom-models=6", "--klom-max=forget_excess=9")


@pytest.mark.parametrize(
    ("args", "pyproject", "confidence"),
    [
        ((), "", "95%"),
        ((), "[tool.klom.gates]\nconfidence = 0.8\n", "80%"),
        (("--klom-confidence=0.9",), "[tool.klom.gates]\nconfidence = 0.8\n", "90%"),
        ((), '[tool.pytest.ini_options]\nklom_confidence = "0.7"\n', "70%"),
    ],
)
def test_the_nearest_setting_wins(project, args, pyproject, confidence):
    low = "--klom-max=forget_excess=0.0001"
    result = project(*ASKED, low, *args, pyproject=pyproject)
    result.assert_outcomes(failed=1)
    assert f"{confidence} at either end)" in result.stdout.str()


@pytest.mark.parametrize("value", ["2", "0.4", "1", "sure", "nan", ""])
def test_a_confidence_that_is_none(project, value):
    result = project(*ASKED, f"--klom-confidence={value}")
    assert result.ret == 4
    assert "--klom-confidence must be a number from 0.5" in result.stderr.str()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[tool.klom.gates]\nconfidence = 95\n", "confidence must be a number from 0.5"),
        ("[tool.klom.gates]\nconfidence = true\n", "confidence must be a number from 0.5"),
        ("[tool.klom.gates.ga]\nconfidence = 0.9\n", "confidence holds for all gates"),
    ],
)
def test_a_table_that_is_wrong(project, table, message):
    result = project(*ASKED, pyproject=table)
    assert result.ret == 4
    assert message in result.stderr.str()


def test_excess_of_four_models_is_refused_before_anything_is_trained(project, tmp_path):
    result = project(*ASKED, "--klom-models=4", f"--klom-store={tmp_path}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["forget_excess needs 5 models and oracles at least, not 4: *"])
    assert not any(tmp_path.iterdir())


def test_the_last_lines_count_words_beside_gates(project):
    result = project(*ASKED)
    result.stdout.fnmatch_lines(["1 of 1 tests measured: 1 *", "in words: 1 *", "[?]: a word is*"])
