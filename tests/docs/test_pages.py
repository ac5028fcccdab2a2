"""README and the pages of `docs`: their code runs, their commands are real, their links lead somewhere."""

import ast
import re
import shlex
import tomllib

import pytest
from helpers.markdown import PAGES, README, blocks, text_of

import klom_bench
from klom_bench.cell.gates import checked_table
from klom_bench.cli.command import build_parser
from klom_bench.cli.help import pages_by_topic
from klom_bench.methods import BUILT_IN
from klom_bench.plugin import pages
from klom_bench.plugin.options import OPTIONS
from klom_bench.tasks import BUILT_IN as TASKS

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def commands(page, program):
    """Lines of code blocks without a language that call a program, without what follows `#`."""
    found = []
    for block in blocks(page, ""):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == [program]:
                found.append(words[1:])
    return found


@every_page
def test_it_begins_with_a_title_and_what_a_reader_wants(page):
    title, empty, first, *_ = text_of(page).splitlines()
    assert title.startswith("# ")
    assert empty == ""
    if page.name != "README.md":
        assert first.startswith("You ")


@every_page
def test_its_lines_can_be_read_in_a_terminal(page):
    code = "".join(blocks(page))
    for line in text_of(page).splitlines():
        assert len(line) <= 120 or line.startswith("|") or line in code, line


@every_page
def test_its_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        assert (page.parent / target).is_file(), target


@every_page
def test_its_python_is_python(page):
    for block in blocks(page, "python"):
        ast.parse(block)


@every_page
def test_its_limits_are_limits(page):
    for block in blocks(page, "toml"):
        checked_table(tomllib.loads(block).get("tool", {}).get("klom", {}).get("gates", {}))


@every_page
def test_its_commands_of_klom_are_understood(page):
    parser = build_parser()
    for words in commands(page, "klom"):
        words = [word.rstrip(";") for word in words]
        parser.parse_args(words)


@every_page
def test_its_commands_of_pytest_are_understood(page, pytester):
    for words in commands(page, "pytest"):
        pytester.parseconfig(*words)


@every_page
def test_options_and_topics_that_it_names_are_there(page):
    flags = {option.flag(name) for name, option in OPTIONS.items()}
    for flag in re.findall(r"--klom-[a-z-]*[a-z]", text_of(page)):
        assert flag in flags
    for topic in re.findall(r"klom help (\w+)", text_of(page)):
        assert topic in pages_by_topic()


def test_a_wrong_page_is_found(tmp_path, pytester):
    """What the tests above look for is found where it is wrong."""
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\nA text\n\n[to](nowhere.md) --klom-metod `klom help nothing`\n\n"
        "```\nklom scor a b\npytest --klom-oracles=x\n```\n\n"
        "```toml\n[tool.klom.gates]\nval_p96 = 1\n```\n\n```python\ndef\n```\n"
    )
    for test in (
        test_it_begins_with_a_title_and_what_a_reader_wants,
        test_its_links_lead_somewhere,
        test_its_python_is_python,
        test_its_limits_are_limits,
        test_its_commands_of_klom_are_understood,
        test_options_and_topics_that_it_names_are_there,
    ):
        with pytest.raises((AssertionError, SyntaxError, klom_bench.KlomError, SystemExit)):
            test(page)
    with pytest.raises(pytest.UsageError):
        test_its_commands_of_pytest_are_understood(page, pytester)


@pytest.mark.parametrize("topic", pages.generated())
def test_what_is_written_from_code_is_up_to_date(topic):
    page = text_of(pages.DOCS / f"{topic}.md")
    assert pages.filled(page, pages.generated()[topic]) == page, (
        "python -m klom_bench.plugin.pages writes it anew"
    )


def test_the_pages_name_all_there_is():
    methods = text_of(pages.DOCS / "methods.md")
    assert all(f"| `{name}`" in methods for name in BUILT_IN)
    assert all(f"`{name}`" in text_of(pages.DOCS / "task.md") for name in TASKS)
    options = text_of(pages.DOCS / "options.md")
    assert all(option.flag(name) in options for name, option in OPTIONS.items())


def test_readme_is_short_and_leads_to_every_page():
    text = text_of(README)
    assert len(text.splitlines()) <= 150
    for page in PAGES[1:]:
        assert f"(klom_bench/docs/{page.name})" in text
