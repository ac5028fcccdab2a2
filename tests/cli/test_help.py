"""`klom help`: the pages, as they lie in the package."""

import sys

import pytest
from helpers.markdown import DOCS


def test_every_page_is_listed_and_printed(run):
    code, listed, err = run("help")
    assert (code, err) == (0, "")
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        title = text.splitlines()[0].removeprefix("# ")
        assert f"klom help {page.stem:<14}{title}\n" in listed
        assert run("help", page.stem) == (0, text, "")


@pytest.mark.parametrize(
    ("asked", "message"), [("gate", "did you mean gates?"), ("train", "Commands have --help")]
)
def test_what_is_no_page_is_told(run, asked, message):
    code, out, err = run("help", asked)
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


def test_needs_neither_torch_nor_numpy(pytester):
    code = (
        "import sys; from klom_bench.cli import main\n"
        "assert main(['help', 'reading']) == 0\n"
        "assert not {'torch', 'numpy'} & {*sys.modules}\n"
    )
    assert pytester.run(sys.executable, "-c", code).ret == 0
