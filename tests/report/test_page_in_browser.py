"""The page in a real browser: it opens without complaint and without a network, and what one does acts."""

import csv
import io
import json
import re

import pytest
from helpers.browser import complaints, requests, saved, seen_as, started, wide
from helpers.compared import result

from klom_bench.report.page.page import page
from klom_bench.report.runs import SavedRun

ROWS = 54
"""More than have details in the page."""
pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    downloads = tmp_path_factory.mktemp("downloads")
    one = started(downloads)
    one.downloads = downloads
    yield one
    one.quit()


@pytest.fixture(scope="module")
def run():
    """Two records, and more settings of them; the first has a limit that failed."""
    made = [result(lr)[2] for lr in (0.1, 1.0)]
    many = [
        {
            **made[i % 2],
            "setting": f"lr={i}",
            "forget_set": ("near", "far")[i % 2],
            "excess": {k: {**v, "value": v["value"] + i} for k, v in made[i % 2]["excess"].items()},
            "histograms": made[i % 2]["histograms"] if i < 2 else [],
        }
        for i in range(ROWS)
    ]
    return SavedRun("run.json", tuple(many))


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page([run]))
    return path


@pytest.fixture
def opened(browser, file):
    """The page, newly opened; at its end nothing may have been complained of, or asked for."""
    wide(browser, 1200)
    seen_as(browser)
    complaints(browser)
    requests(browser)
    browser.get(file.as_uri())
    yield browser
    assert complaints(browser) == []
    assert {url.split(":")[0] for url in requests(browser)} <= {"file", "data", "blob"}


def js(browser, script, *given):
    return browser.execute_script(script, *given)


def column(browser, heading):
    """The texts of a column of the rows that are shown, top to bottom."""
    return js(
        browser,
        "const table = document.getElementById('rows');"
        "const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());"
        "const at = heads.findIndex((head) => head.replace(/\\s+/g, ' ') === arguments[0]);"
        "return [...table.tBodies[0].rows].map((row) => row.cells[at].textContent);",
        heading,
    )


def heading(browser, text):
    buttons = browser.find_elements("css selector", "#rows th button")
    (found,) = [b for b in buttons if " ".join(b.get_attribute("textContent").split()) == text]
    return found


def control(browser, section, label):
    """A select or field by its label, a button by its text."""
    return js(
        browser,
        "const all = [...document.querySelectorAll(`#${arguments[0]} .controls > *`)];"
        "const one = all.find((e) => (e.tagName === 'LABEL' ? e.firstChild : e).textContent.trim() === arguments[1]);"
        "return one.tagName === 'LABEL' ? one.querySelector('select, input') : one;",
        section,
        label,
    )


def choose(browser, section, label, value):
    select = control(browser, section, label)
    js(
        browser,
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))",
        select,
        value,
    )


def excesses(browser):
    values = [float(text.split()[0]) for text in column(browser, "excess forget") if text != "n/a"]
    assert len(values) == ROWS + 4
    return values


def test_figures_are_there_and_not_empty(opened):
    drawn = js(
        opened,
        "return [...document.querySelectorAll('[data-figures]')].map((section) => {"
        "  const shown = [...section.querySelectorAll('svg')].filter((svg) => svg.getClientRects().length);"
        "  return shown.map((svg) => { const {width, height} = svg.getBoundingClientRect();"
        "    return [width, height, svg.querySelectorAll('path, use').length,"
        "            svg.querySelectorAll('text').length]; }); });",
    )
    assert len(drawn) >= 3
    for section in drawn:
        ((width, height, marks, texts),) = section
        assert width > 300
        assert height > 60
        assert marks > 10
        assert texts > 4


def test_a_heading_sorts_by_its_numbers(opened):
    button = heading(opened, "excess forget")
    button.click()
    assert excesses(opened) == sorted(excesses(opened))
    th = button.find_element("xpath", "..")
    assert th.get_attribute("aria-sort") == "ascending"
    button.click()
    assert excesses(opened) == sorted(excesses(opened), reverse=True)
    assert th.get_attribute("aria-sort") == "descending"
    heading(opened, "method").click()
    assert th.get_attribute("aria-sort") is None


def test_a_heading_sorts_by_keyboard_and_names_by_their_numbers(opened):
    from selenium.webdriver.common.keys import Keys

    button = heading(opened, "method")
    js(opened, "arguments[0].focus()", button)
    assert opened.switch_to.active_element == button
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    names = [name for name in column(opened, "method") if name.startswith("shift")]
    assert names == [f"shift lr={i}" for i in range(ROWS)]


def test_rows_are_found_and_chosen(opened):
    field = control(opened, "table", "find")
    field.send_keys("lr=5 far")
    assert column(opened, "method") == [f"shift lr={i}" for i in (5, 51, 53)]
    status = opened.find_element("css selector", "#table [role=status]")
    assert status.text == f"3 of {ROWS + 4} rows"
    field.clear()
    field.send_keys(" ")
    choose(opened, "table", "forget set", "near")
    assert {*column(opened, "forget set")} == {"near"}
    choose(opened, "table", "forget set", "")
    assert len(column(opened, "method")) == ROWS + 4


def test_columns_are_chosen(opened):
    def shown():
        cells = opened.find_elements("css selector", "#rows th")
        return [c.text.replace("\n", " ").removesuffix(" ↕") for c in cells if c.is_displayed()]

    assert "excess forget" in shown()
    assert "KLOM P95 forget" not in shown()
    choose(opened, "table", "columns", "klom")
    assert "excess forget" not in shown()
    assert "KLOM P95 forget" in shown()
    choose(opened, "table", "columns", "")
    assert {"excess forget", "KLOM P95 forget"} < {*shown()}


def test_a_choice_shows_another_figure(opened):
    def shown():
        figures = opened.find_elements("css selector", "#plane figure")
        (one,) = [figure for figure in figures if figure.is_displayed()]
        return json.loads(one.get_attribute("data-choice"))

    first = shown()
    choose(opened, "plane", "score", "excess")
    assert shown() == {**first, "score": "excess"}
    choose(opened, "plane", "y", "retain")
    assert shown() == {**first, "score": "excess", "y": "retain"}


def test_what_is_shown_is_copied_for_a_spreadsheet(opened):
    control(opened, "table", "find").send_keys("lr=7")
    control(opened, "table", "copy").click()
    text = opened.execute_async_script(
        "const done = arguments[0]; setTimeout(() => navigator.clipboard.readText().then(done, (e) => done('no ' + e)), 200)"
    )
    head, row = (line.split("\t") for line in text.splitlines())
    assert head[:2] == ["method", "forget set"]
    assert row[:2] == ["shift lr=7", "far"]
    assert len(row) == len(head) < 20


def test_all_numbers_are_saved_as_csv_and_json(opened, run):
    control(opened, "table", "CSV").click()
    table = [*csv.DictReader(io.StringIO(saved(opened.downloads, "klom.csv")))]
    assert [row["setting"] for row in table] == [r["setting"] for r in sorted_by_set(run)]
    for row, record in zip(table, sorted_by_set(run), strict=True):
        assert float(row["forget_excess"]) == pytest.approx(
            record["excess"]["forget"]["value"], rel=1e-5
        )
    control(opened, "table", "JSON").click()
    plain = json.loads(saved(opened.downloads, "klom.json"))
    assert [str(row["forget_excess"]) for row in plain] == [row["forget_excess"] for row in table]
    assert all("lr=" in row["details"]["hyperparameters"] for row in plain)


def test_a_name_is_no_formula_and_a_signed_number_is_one(opened):
    """As far as a page goes: `harmless` is asked for what it makes of texts."""
    source = opened.execute_script(
        "return document.querySelector('script:not([type])').textContent"
    )
    (line,) = [of for of in source.splitlines() if "const harmless" in of]
    (number,) = [of for of in source.splitlines() if "const NUMBER" in of]
    found = opened.execute_script(
        f"{number}\n{line}\nreturn arguments[0].map(harmless)",
        ["=1+1", "@a", "-1+cmd|' /C calc'!A0", "+x", "-0.0144 ±0.0025", "+3 %", "-7", "ga"],
    )
    assert found == [
        "'=1+1", "'@a", "'-1+cmd|' /C calc'!A0", "'+x", "-0.0144 ±0.0025", "+3 %", "-7", "ga",
    ]  # fmt: skip


def sorted_by_set(run):
    return sorted(run.records, key=lambda record: record["forget_set"] != "near")


def test_rows_open_from_the_page_or_on_demand(opened):
    for name, there in (("shift lr=53", True), ("shift lr=1", False)):
        found = [a for a in opened.find_elements("css selector", "#rows td a") if a.text == name]
        place = found[0].get_attribute("href").partition("#")[2]
        assert bool(opened.find_elements("id", place)) == there
        js(opened, "arguments[0].click()", found[0])
        opened.execute_async_script("setTimeout(arguments[0], 300)")
        details = opened.find_element("id", place)
        assert details.get_attribute("open")
        assert name in details.find_element("tag name", "summary").text
        assert "hyperparameters" in details.text
        assert opened.switch_to.active_element == details.find_element("tag name", "summary")


@pytest.mark.parametrize("pixels", [400, 1200])
def test_nothing_is_wider_than_the_screen(opened, pixels):
    wide(opened, pixels)
    assert js(opened, "return document.documentElement.scrollWidth") <= pixels
    js(opened, "document.querySelectorAll('details').forEach((one) => { one.open = true })")
    assert js(opened, "return document.documentElement.scrollWidth") <= pixels


def brightness(colour):
    red, green, blue = (int(v) / 255 for v in re.findall(r"\d+", colour)[:3])
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (red, green, blue)
    ]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(browser, selector):
    """WCAG 2's ratio of a text and what lies behind it."""
    ink, ground = js(
        browser,
        "let e = document.querySelector(arguments[0]); const ink = getComputedStyle(e).color;"
        "while (e && /, 0\\)$|transparent/.test(getComputedStyle(e).backgroundColor)) e = e.parentElement;"
        "return [ink, e ? getComputedStyle(e).backgroundColor : 'rgb(255, 255, 255)'];",
        selector,
    )
    one, other = sorted((brightness(ink), brightness(ground)), reverse=True)
    return (one + 0.05) / (other + 0.05)


TEXTS = (
    "body",
    "nav a",
    ".who",
    "figcaption",
    "button",
    "th small",
    "tr.reference td",
    "dt",
    "select",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_the_dark_and_in_the_light(opened, scheme):
    seen_as(opened, scheme)
    assert {text: contrast(opened, text) for text in TEXTS if contrast(opened, text) < 4.5} == {}
    dark = brightness(js(opened, "return getComputedStyle(document.body).backgroundColor")) < 0.1
    assert dark == (scheme == "dark")
    label = js(opened, "return getComputedStyle(document.querySelector('#plane svg text')).fill")
    assert (brightness(label) > 0.5) == dark
    opened.find_element("css selector", "button.theme").click()
    now = brightness(js(opened, "return getComputedStyle(document.body).backgroundColor")) < 0.1
    assert now != dark


def test_on_paper_there_is_nothing_to_press(opened):
    seen_as(opened, "dark", media="print")
    pressed = opened.find_elements("css selector", ".controls, nav")
    assert not [one for one in pressed if one.is_displayed()]
    assert brightness(js(opened, "return getComputedStyle(document.body).color")) < 0.1
    assert (
        len(
            [
                row
                for row in opened.find_elements("css selector", "#rows tbody tr")
                if row.is_displayed()
            ]
        )
        > ROWS
    )


def test_without_its_script_all_can_be_read(browser, file):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(file.as_uri())
        for what in ("[data-figures] figure", "#rows tbody tr"):
            every = browser.find_elements("css selector", what)
            assert len(every) > 8
            assert all(one.is_displayed() for one in every)
        assert not [
            e for e in browser.find_elements("css selector", "button, select") if e.is_displayed()
        ]
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
