"""A real browser without a window."""

import json
import os
import shutil
import time

import pytest


def found():
    """Chromium and its driver; where they are missing an error in CI, elsewhere a skip."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    paths = browser, shutil.which("chromedriver")
    if all(paths):
        return paths
    missing = "chromium and chromedriver are not here: apt-get install chromium chromium-driver"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def started(downloads):
    """A browser that writes down what it does; files that are saved go to this folder."""
    from selenium import webdriver

    chromium, driver = found()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    behaviour = {"behavior": "allow", "downloadPath": str(downloads)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    browser.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    return browser


def wide(browser, pixels):
    """The page as on a screen of so many pixels."""
    size = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def seen_as(browser, scheme="light", media=""):
    """What the user's system asks for: light or dark; on paper with media="print"."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    asked = {"media": media, "features": features}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", asked)


def complaints(browser):
    """What the console says since the last time."""
    return [entry["message"] for entry in browser.get_log("browser")]


def requests(browser):
    """The addresses that were asked since the last time."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [of["request"]["url"] for of in sent]


def saved(folder, name):
    """The text of a file that the browser saves, once it is there."""
    end = time.monotonic() + 20
    while not (folder / name).is_file():
        assert time.monotonic() < end, f"{name} was not saved"
        time.sleep(0.02)
    return (folder / name).read_text()
