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
from collections.abc import Iterator
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
WATCHED = "{ subtree: true, childList: true, attributeFilter: ['aria-busy'] }"
SETTLED = f"""() => new Promise((done) => {{
    const shown = () => document.querySelector("main canvas, main .choices, main .candidates");
    const busy = () => document.querySelector("main[aria-busy], main [aria-busy]");
    const watch = new MutationObserver(() => {{ if (shown() && !busy()) end(); }});
    const end = () => {{
        watch.disconnect();
        requestAnimationFrame(() => setTimeout(() => done(performance.now())));
    }};
    watch.observe(document, {WATCHED});
    if (shown() && !busy()) end();
}})"""
"""The milliseconds from the page's beginning until it has drawn what it shows. Nothing asks meanwhile."""
TAKEN = f"""async (act) => {{
    const begun = performance.now();
    await act();
    return (await ({SETTLED})()) - begun;
}}"""
LAST = "[data-block='11']"
BARS = f"""() => document.querySelector("{LAST}").closest(".row").querySelector(".backward b").innerText"""
"""Every block has its bar of gradients."""
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
            for name, taken in one_visit(page, url, rng.integers(50257, size=N_TOKENS)):
                times.setdefault(name, []).append(taken)
        peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
        process.terminate()
    print("| | median, ms | slowest |\n|---|---|---|")
    for name, taken in times.items():
        print(f"| {name} | {statistics.median(taken):,.0f} | {max(taken):,.0f} |")
    if peak:
        print(f"\nThe server's memory at most: {int(peak.group(1)) / 1e6:.2f} GB.")


def one_visit(page: Page, url: str, token_ids: Any) -> Iterator[tuple[str, float]]:
    """The first picture of a text, and what one does then."""
    ids = "+".join(map(str, token_ids))
    page.goto("about:blank")
    page.goto(f"{url}/#view=prediction&ids={ids}&targetId=262", wait_until="commit")
    yield "first picture", page.evaluate(f"() => ({SETTLED})()")
    yield "another part of the block", clicked(page, site("blocks.0.attention.scores"))
    page.wait_for_function(BARS, polling=200)
    yield "opening a block", clicked(page, "[data-block='6']")
    yield "a part of it", clicked(page, site("blocks.6.feed_forward.hidden"))
    yield "attention", clicked(page, view("attention"))
    yield "another head", clicked(page, "[data-head='7.3']")
    yield "gradients of attention", clicked(page, "input[value=gradient]")
    yield "next token", clicked(page, view("next"))
    yield "temperature turned", turned(page, "input[aria-label=Temperature]", 0.7)
    yield "backward", clicked(page, view("backward"))


def site(name: str) -> str:
    return f"[data-site='{name}']"


def view(name: str) -> str:
    return f"#views a[href*='view={name}']"


def clicked(page: Page, selector: str) -> float:
    """The milliseconds from a click until the page has what it shows."""
    page.locator(selector).wait_for()
    return page.evaluate(f"(selector) => ({TAKEN})(() => document.querySelector(selector).click())", selector)


def turned(page: Page, selector: str, number: float) -> float:
    """Likewise, from a slider's being moved: the page asks when it has stood still for a moment."""
    act = f"""async ([selector, number]) => ({TAKEN})(() => {{
        const slider = document.querySelector(selector);
        slider.value = number;
        slider.dispatchEvent(new Event("input"));
        return new Promise((busy) => new MutationObserver(busy).observe(document, {WATCHED}));
    }})"""
    return page.evaluate(act, [selector, number])


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
