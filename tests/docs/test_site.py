"""The site as it is read, on a screen and on a phone: nothing is wider than the window, all is there.

Wants the site (`make docs`), Chromium, and playwright.
"""

import shutil
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "docs" / "_build" / "html"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (1280, 390)
"""Of a screen and of a phone, in pixels."""
PAGES = sorted(SITE.rglob("*.html")) if SITE.is_dir() else []

sync_api = pytest.importorskip("playwright.sync_api", reason="looking at the site wants playwright")
pytestmark = [
    pytest.mark.skipif(not PAGES, reason="the site is not built: make docs"),
    pytest.mark.skipif(CHROMIUM is None, reason="looking at the site wants Chromium"),
]


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])


def test_every_page_fits_the_window_and_needs_no_network(browser):
    page = browser.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(f"script: {error}"))
    page.on("requestfailed", lambda request: problems.append(f"missing: {request.url}"))
    page.on(
        "request",
        lambda r: problems.append(f"network: {r.url}") if not r.url.startswith(("file:", "data:")) else None,
    )
    for path in PAGES:
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        page.goto(path.as_uri())
        page.evaluate("() => window.MathJax?.startup?.promise")
        problems += page.evaluate(
            "() => [...document.querySelectorAll('mjx-merror')].map(e => e.textContent)"
        )
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            too_wide = page.evaluate(
                "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            problems += [f"{too_wide} pixels too wide at {width}"] * bool(too_wide)
        assert not problems, path.relative_to(SITE)
