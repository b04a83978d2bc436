"""Is the doctor right? Healthy runs and sick ones, and what it says of each when: a table, as Markdown.

    python benchmarks/doctor.py tinyshakespeare.txt --out doctor-runs     # twenty minutes

Runs are `nano`, shortened or changed. Each is read again as far as it was at every evaluation and every 25
steps: on a healthy run the doctor must be silent throughout; of a sick one it must name what it has, and the
table says after how many steps and seconds. Runs that are in the folder already are read, not trained.
"""

import argparse
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import handgrad
from handgrad.data import corpus
from handgrad.training import doctor, metrics, run_config
from handgrad.training.metrics import EvaluationRow

EVERY = 25
TEXT_LENGTH = 1_000_000
SHORT: dict[str, Any] = {"steps": 400, "eval_every": 50}
LONG: dict[str, Any] = {"steps": 800, "eval_every": 100}
OVERFIT: dict[str, Any] = {"steps": 1200, "eval_every": 100}
LLAMA = {"preset": "llama", "d_model": 128, "n_heads": 4, "n_kv_heads": 2, "context_length": 64}


class Case(NamedTuple):
    """A run, and what the doctor should say of it."""

    text: str
    options: dict[str, Any]
    expected: tuple[str, ...] = ()


def cases() -> dict[str, Case]:
    """All of them by name."""
    healthy = {
        f"{text}, learning rate {rate:g}": Case(text, {"learning_rate": rate, "seed": 10 + i, **LONG})
        for i, text in enumerate(("shakespeare", "reference", "code"))
        for rate in (4e-4, 1e-3, 2e-3)
    }
    others: dict[str, tuple[str, dict[str, Any]]] = {
        "seed 21": ("shakespeare", {"seed": 21, **LONG}),
        "seed 22": ("shakespeare", {"seed": 22, **LONG}),
        "bpe 1,024": ("shakespeare", {"tokenizer": "bpe", **LONG}),
        "bpe 512 of code": ("code", {"tokenizer": "bpe", "vocab_size": 512, **LONG}),
        "bytes": ("reference", {"tokenizer": "bytes", **LONG}),
        "dropout 0.3": ("shakespeare", {"dropout": 0.3, **LONG}),
        "paper": ("reference", {"preset": "paper", **LONG}),
        "llama": ("code", {**LLAMA, "batch_size": 12, "n_layers": 4, **LONG}),
        "constant, no warm-up": ("shakespeare", {"schedule": "constant", "warmup_steps": 0, **LONG}),
        "batches of 4": ("shakespeare", {"batch_size": 4, **LONG, "eval_every": 25}),
        "two layers, 64 wide": ("reference", {"n_layers": 2, "d_model": 64, **LONG}),
    }
    healthy |= {name: Case(*case) for name, case in others.items()}
    return healthy | _sick()


def _sick() -> dict[str, Case]:
    high, low = ("learning rate too high", "diverging"), ("learning rate too low",)
    sick = {
        "15 kB": Case("15 kB", OVERFIT, ("overfitting",)),
        "15 kB, learning rate 0.002": Case("15 kB", {"learning_rate": 2e-3, **OVERFIT}, ("overfitting",)),
        "30 kB": Case("30 kB", {"learning_rate": 2e-3, **OVERFIT}, ("overfitting",)),
        "40 kB, 256 wide": Case("40 kB", {"d_model": 256, "n_layers": 6, **LONG}, ("model too large",)),
        "15 kB, 192 wide": Case("15 kB", {"d_model": 192, **SHORT}, ("model too large",)),
        "25 kB, twenty times": Case("25 kB, twenty times", SHORT, ("repeated text",)),
        "shakespeare, twice": Case("shakespeare, twice", SHORT, ("repeated text",)),
        "half of it again": Case("half of it again", SHORT, ("repeated text",)),
    }
    for rate in (0.02, 0.05, 0.3, 3.0):
        sick[f"learning rate {rate:g}"] = Case("reference", {"learning_rate": rate, **SHORT}, high)
    for rate in (2e-6, 2e-5, 8e-5):
        sick[f"learning rate {rate:g}"] = Case("code", {"learning_rate": rate, **SHORT}, low)
    deep = {"preset": "paper", "n_layers": 12, "d_model": 32, "n_heads": 2, "activation": "sigmoid"}
    sick["12 layers of sigmoids, norms after"] = Case("shakespeare", deep | SHORT, ("gradients vanishing",))
    thrown = {"preset": "paper", "n_layers": 2, "d_model": 64, "n_heads": 2, "learning_rate": 0.3}
    sick["ReLUs, learning rate 0.3"] = Case("shakespeare", thrown | SHORT, ("dead units",))
    return sick


def texts(shakespeare: str) -> dict[str, str]:
    """What is trained on."""
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    code = "".join(path.read_text(encoding="utf-8", errors="ignore") for path in library[::2])
    reference = corpus.embedded().text
    return {
        "shakespeare": shakespeare,
        "reference": reference,
        "code": "".join(filter(str.isascii, code))[:TEXT_LENGTH],
        "15 kB": reference[30_000:45_000],
        "30 kB": shakespeare[200_000:230_000],
        "40 kB": shakespeare[500_000:540_000],
        "25 kB, twenty times": shakespeare[300_000:325_000] * 20,
        "shakespeare, twice": shakespeare * 2,
        "half of it again": shakespeare[:500_000]
        + shakespeare[470_000:500_000]
        + shakespeare[500_000:530_000],
    }


def said(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Kind, step and seconds of all that the doctor said while the run was trained."""
    rows, config = metrics.read(folder), run_config.read(folder)
    before = None
    for i, row in enumerate(rows, start=1):
        if isinstance(row, EvaluationRow) or i % EVERY == 0:
            finding = doctor.examine(rows[:i], config)
            if finding and finding.kind != before:
                yield finding.kind, row.step, row.seconds
            before = finding.kind if finding else None


def line(name: str, case: Case, found: list[tuple[str, int, float]]) -> str:
    told = "; ".join(f"{kind} after {step} steps, {seconds:.0f} s" for kind, step, seconds in found)
    has = " or ".join(case.expected)
    return f"| {name} | {has or 'nothing'} | {told or 'nothing'} | {verdict(case, found)} |"


def verdict(case: Case, found: list[tuple[str, int, float]]) -> str:
    kinds = {kind for kind, _, _ in found}
    return "right" if (kinds & set(case.expected) if case.expected else not kinds) else "wrong"


def main() -> None:
    arguments = argparse.ArgumentParser(description="What the doctor says of healthy and of sick runs.")
    arguments.add_argument("text", type=Path, help="tiny shakespeare")
    arguments.add_argument("--out", type=Path, default=Path("doctor-runs"), help="the folder of the runs")
    given = arguments.parse_args()
    given.out.mkdir(exist_ok=True)
    sources = {}
    for name, text in texts(given.text.read_text(encoding="utf-8")).items():
        sources[name] = given.out / f"{name}.txt"
        sources[name].write_text(text, encoding="utf-8")
    print("| run | has | said | |\n|---|---|---|---|")
    right = 0
    for name, case in cases().items():
        folder = given.out / name
        if not folder.exists():
            print(name, file=sys.stderr)
            options = {"preset": "nano", **case.options}
            handgrad.train(sources[case.text], out=folder, report=lambda event: None, **options)
        found = list(said(folder))
        right += verdict(case, found) == "right"
        print(line(name, case, found), flush=True)
    print(f"\n{right} of {len(cases())} right")


if __name__ == "__main__":
    main()
