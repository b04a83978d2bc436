"""Look at the explorer's page, for its guide: python docs/images/explorer.py runs/NAME

The run was trained on tiny shakespeare, whose first words are the text that is looked at.
"""

import contextlib
import shutil
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from handgrad.explore import server
from handgrad.explore.explorer import Explorer
from handgrad.serve.server import listen

TEXT, TARGET = "First Citizen: Before we proceed any further", ","
LOOKS = {
    "attention": ({"view": "attention"}, 900),
    "next": ({"view": "next"}, 760),
    "backward": ({"view": "backward", "target": TARGET}, 900),
}
"""What is looked at, and how high the picture is, in pixels."""
WIDTH = 1280


def main() -> None:
    with answering(Explorer(sys.argv[1])) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, (state, height) in LOOKS.items():
            page = browser.new_page(viewport={"width": WIDTH, "height": height}, color_scheme="light")
            page.goto(f"{url}/#{urllib.parse.urlencode({**state, 'text': TEXT})}")
            page.locator("main h2").wait_for()
            expect(page.locator("main[aria-busy], main [aria-busy]")).to_have_count(0, timeout=60_000)
            page.screenshot(path=Path(__file__).parent / f"explorer-{name}.png")


@contextlib.contextmanager
def answering(explorer: Explorer) -> Iterator[str]:
    """The address of a server, as long as the block runs."""
    with listen("127.0.0.1", 0) as listening:
        listening.listen()
        serving = server.server(explorer)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://localhost:{listening.getsockname()[1]}"
        finally:
            serving.should_exit = True
            thread.join()


if __name__ == "__main__":
    main()
