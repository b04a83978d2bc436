"""The chat page in a real browser: as one uses it, by keyboard, on a screen and on a phone."""

import shutil
import time
from typing import ClassVar

import pytest

from handgrad.formats.model_folder import Model
from handgrad.generation.writer import Piece, Writer
from handgrad.model.init import init
from handgrad.serve.guard import Rules
from handgrad.tokenizer import ByteTokenizer
from tests.serve.conftest import CONFIG
from tests.serve.running import running

sync_api = pytest.importorskip("playwright.sync_api", reason="looking at the page wants playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="looking at the page wants Chromium")

WIDTHS = (390, 1280)
HOSTILE = "<img src=x onerror=alert(1)> & **bold**"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])


@pytest.fixture(scope="module")
def model():
    """Its context is long enough for a conversation."""
    config = CONFIG.replace(context_length=1024)
    return Model(config, init(config, 1), ByteTokenizer())


class Script(Writer):
    """A writer that writes the `texts`, whatever the model would; `seconds` are what each takes."""

    texts: ClassVar[list[str]] = []
    seconds = 0.0

    def next(self, logits):
        time.sleep(self.seconds)
        self.n = getattr(self, "n", 0) + 1
        return Piece(self.texts[self.n - 1], 97, finished="stop" if self.n == len(self.texts) else None)


@pytest.fixture
def page(browser, service, monkeypatch):
    """The page of a server that asks for a key."""
    monkeypatch.setattr("handgrad.serve.service.Writer", Script)
    with running(service, Rules(api_key="sesame")) as url, browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(5000)
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.on("request", lambda r: None if r.url.startswith(url) else problems.append(r.url))
        page.goto(url)
        yield page
        assert problems == []


def test_one_talks_to_it(page):
    assert page.get_by_role("alert").inner_text().startswith("This server wants its API key")
    page.get_by_label("API key").fill("sesame")
    page.get_by_label("API key").press("Tab")
    page.get_by_role("heading", name="tiny").wait_for()
    for leave in (
        lambda: page.keyboard.press("Escape"),
        lambda: page.locator("main").click(position={"x": 5, "y": 500}),
    ):
        leave()
        assert not page.locator("#options").is_visible()
        page.locator("summary").click()

    Script.texts = [" <b>", HOSTILE, "\n  two\n```html\n<b>x</b>", "\n```\nend"]
    question = page.get_by_label("Message")
    question.fill("first line")
    question.press("Shift+Enter")
    question.type("<i>second</i>")
    question.press("Enter")
    page.get_by_role("button", name="Another answer").wait_for()
    said = page.locator("article .text").all_inner_texts()
    assert said[0] == "first line\n<i>second</i>"
    assert said[1].startswith(f"<b>{HOSTILE}\n  two")
    assert page.locator("article pre").inner_text() == "<b>x</b>"
    assert page.locator("article img, article b, article i").count() == 0

    Script.texts, Script.seconds = ["word "] * 500, 0.02  # streams, and is stopped
    question.fill("again")
    question.press("Enter")
    page.get_by_text("word word").wait_for()
    question.press("Escape")
    page.get_by_text("Stopped.").wait_for()
    assert not page.locator("#options").is_visible()  # settings do not stand before an answer

    page.reload()  # the conversation is kept
    assert page.locator("article").count() == 4
    Script.texts = ["better"]
    page.get_by_role("button", name="Another answer").click()
    page.get_by_text("better").wait_for()
    assert page.locator("article").count() == 4

    Script.texts = ["one\n```\na\n```\n\nthree\n```"]  # broken off where a second code begins
    page.get_by_role("button", name="Another answer").click()
    page.get_by_text("three").wait_for()
    assert page.locator("article.assistant").last.locator(".text").inner_text() == "one\na\nthree"
    assert page.locator("article:last-child pre:visible").count() == 1

    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="New chat").click()
    assert page.locator("article").count() == 0


def test_an_answer_that_is_broken_off_says_so(page, service):
    page.get_by_label("API key").fill("sesame")
    page.get_by_label("API key").press("Tab")
    Script.texts, Script.seconds = ["word "] * 500, 0.02
    page.get_by_label("Message").fill("on and on")
    page.get_by_label("Message").press("Enter")
    page.get_by_text("word word").wait_for()
    service.scheduler.close()
    page.get_by_text("Broken off.").wait_for()
    assert "is stopping" in page.get_by_role("alert").inner_text()


def test_a_question_that_gets_no_answer_is_not_lost(page, service):
    service.scheduler.close()
    page.get_by_label("Message").fill("precious")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("wants its API key").wait_for()
    assert page.get_by_label("Message").input_value() == "precious"
