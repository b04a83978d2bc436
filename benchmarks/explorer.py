"""How long the explorer's page takes with a large model, and what it costs a training.

    python benchmarks/explorer.py page        # GPT-2's size, 512 tokens: the first picture, then single steps
    python benchmarks/explorer.py training    # nano, with and without the page open on it, in turn

The page runs in Chromium on this machine. Leave the machine alone meanwhile.
"""

import argparse
import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import processors
from playwright.sync_api import Page, sync_playwright

from handgrad.formats import hugging_face
from handgrad.formats.model_folder import Model
from handgrad.model.config import preset
from handgrad.model.init import init
from handgrad.training import metrics

N_TOKENS = 512
BUSY = "main[aria-busy], main [aria-busy]"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def main() -> None:
    options = argparse.ArgumentParser(description="The explorer's times.")
    options.add_argument("what", choices=["page", "training"])
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    print(processors.describe(None))
    with tempfile.TemporaryDirectory() as folder, browser() as page:
        (page_times if given.what == "page" else training_cost)(Path(folder), page, given.rounds)


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield chromium.new_page(viewport={"width": 1280, "height": 900})


def page_times(folder: Path, page: Page, rounds: int) -> None:
    """Each text is another one, so that nothing is held of it."""
    model = Model(preset("gpt2"), init(preset("gpt2"), 1))
    hugging_face.save(model, folder / "model")
    command = [sys.executable, "-m", "handgrad", "explore", str(folder / "model"), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        url = address(process)
        rng, times = np.random.default_rng(0), dict[str, list[float]]()
        for _ in range(rounds):
            for name, seconds in one_visit(page, url, rng.integers(50257, size=N_TOKENS)):
                times.setdefault(name, []).append(seconds)
        peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
        process.terminate()
    print("| | median, ms | slowest |\n|---|---|---|")
    for name, taken in times.items():
        print(f"| {name} | {1000 * statistics.median(taken):,.0f} | {1000 * max(taken):,.0f} |")
    if peak:
        print(f"\nThe server's memory at most: {int(peak.group(1)) / 1e6:.2f} GB.")


def one_visit(page: Page, url: str, token_ids: Any) -> Iterator[tuple[str, float]]:
    """The first picture of a text, and what one does then."""
    ids = "+".join(map(str, token_ids))
    page.goto("about:blank")
    yield "first picture", taken(page, lambda: page.goto(f"{url}/#view=prediction&ids={ids}&targetId=262"))
    yield "another part of the block", taken(page, lambda: click_site(page, "blocks.0.attention.scores"))
    wait_for_bars(page)
    yield "opening a block", taken(page, lambda: page.locator("[data-block='6']").click())
    yield "a part of it", taken(page, lambda: click_site(page, "blocks.6.feed_forward.hidden"))
    yield "attention", taken(page, lambda: view(page, "Attention"))
    yield "another head", taken(page, lambda: page.locator("[data-head='7.3']").click())
    yield "gradients of attention", taken(page, lambda: page.get_by_role("radio", name="gradient").check())
    yield "next token", taken(page, lambda: view(page, "Next token"))
    yield "temperature turned", taken(page, lambda: page.get_by_label("Temperature").fill("0.7"))
    yield "backward", taken(page, lambda: view(page, "Backward"))


def wait_for_bars(page: Page) -> None:
    """Until every block has its bar of gradients."""
    last = page.locator("[data-block='11']").locator("xpath=..").locator(".bar.backward b")
    while not last.inner_text():
        page.wait_for_timeout(100)


def click_site(page: Page, name: str) -> None:
    page.locator(f"[data-site='{name}']").click()


def view(page: Page, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=name).click()


def taken(page: Page, act: Callable[[], Any]) -> float:
    """The seconds until the page has what it shows."""
    started = time.perf_counter()
    act()
    page.locator("main canvas, main .choices, main .candidates").first.wait_for()
    while page.locator(BUSY).count():
        page.wait_for_timeout(5)
    return time.perf_counter() - started


def address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://localhost:\d+", line):
            return found.group()
    raise SystemExit("The explorer did not start.")


def training_cost(folder: Path, page: Page, rounds: int) -> None:
    """Steps a second of the same training, alone and with the page open on its losses."""
    rates: dict[str, list[float]] = {"alone": [], "with the page": []}
    for number in range(rounds):
        for name in rates:
            out = folder / f"{name.replace(' ', '-')}-{number}"
            rates[name].append(trained(out, page if name != "alone" else None))
    print("| | steps a second, median |\n|---|---|")
    for name, found in rates.items():
        print(f"| {name} | {statistics.median(found):.2f} |")
    pairs = [there / alone for alone, there in zip(*rates.values(), strict=True)]
    print(f"\nWith the page: {statistics.median(pairs):.3f} of the speed, median of {rounds} pairs.")


def trained(out: Path, page: Page | None, steps: int = 1200) -> float:
    """Steps a second between the first tenth and the end."""
    command = [sys.executable, "-m", "handgrad", "train", "--preset", "nano", "--steps", str(steps)]
    command += ["--eval-every", str(steps), "--out", str(out), *(["--explore"] if page else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        if page:
            assert process.stdout is not None
            lines = (re.search(r"http://localhost:\d+", line) for line in process.stdout)
            url = next(found.group() for found in lines if found)
            page.goto(f"{url}/#view=learning")
        for _ in process.stdout or ():
            pass
    rows = [json.loads(line) for line in (out / metrics.METRICS).read_text().splitlines()]
    seconds = {row["step"]: row["seconds"] for row in rows if "learning_rate" in row}
    first, last = steps // 10, steps - 1
    return (last - first) / (seconds[last] - seconds[first])


if __name__ == "__main__":
    main()
