"""What a test shows where a method raises: its own lines and causes, none of the harness."""

import pytest

METHOD = """
import pytest

def into_it():
    raise ZeroDivisionError("the first fault")

@pytest.fixture
def mine():
    def unlearn(model, forget, retain):
        {body}
        yield
    return unlearn
"""


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("raise ValueError('no step')", "ValueError: no step"),
        ("raise SystemExit('no more')", "SystemExit: no more"),
        ("pytest.fail('not so')", "Failed: not so"),
    ],
)
def test_the_place_in_it_is_shown_and_nothing_of_the_harness(project, body, shown):
    conftest = METHOD.format(body=body)
    result = project("--klom-method=mine", "--klom-forget-set=3", conftest=conftest)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*>*{body}", f"E *{shown}"])
    result.stdout.no_fnmatch_line("*klom_bench/cell*")
    result.stdout.no_fnmatch_line("*concurrent/futures*")


def test_what_it_was_raised_from_is_shown_too(project):
    body = (
        "try: into_it()\n        except ZeroDivisionError as e: raise ValueError('no step') from e"
    )
    conftest = METHOD.format(body=body)
    result = project("--klom-method=mine", "--klom-forget-set=3", conftest=conftest)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *ZeroDivisionError: the first fault", "*direct cause*", "E *ValueError: no step"]
    )


def test_a_skip_is_one(project):
    conftest = METHOD.format(body="pytest.skip('not on Sundays')")
    result = project("--klom-method=mine", "--klom-forget-set=3", "-rs", conftest=conftest)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*not on Sundays*"])
