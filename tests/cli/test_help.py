"""`klom help`: the pages, as they lie in the package."""

import sys

from helpers.markdown import DOCS

from klom_bench.cli.help import pages_by_topic
from klom_bench.errors import unknown


def test_every_page_is_listed_and_printed(run):
    code, listed, err = run("help")
    assert (code, err) == (0, "")
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        title = text.splitlines()[0].removeprefix("# ")
        assert f"klom help {page.stem:<14}{title}\n" in listed
        assert run("help", page.stem) == (0, text, "")


def test_of_a_command_it_is_that_of_the_command(run):
    code, out, err = run("help", "train")
    assert (code, err) == (0, "")
    assert out.startswith("usage: klom train ")


def test_what_is_no_page_is_told(run):
    code, out, err = run("help", "gate")
    assert (code, out) == (1, "")
    assert err == f"klom help: {unknown('topic', 'gate', pages_by_topic())}\n"
    assert "did you mean gates?" in err


def test_needs_neither_torch_nor_numpy(pytester):
    code = (
        "import sys; from klom_bench.cli import main\n"
        "assert main(['help', 'reading']) == 0\n"
        "assert not {'torch', 'numpy'} & {*sys.modules}\n"
    )
    assert pytester.run(sys.executable, "-c", code).ret == 0
