"""What the documentation says is so: its index is whole, its reference complete, its code runs."""

import inspect
import re
import shutil
from pathlib import Path

import pytest
from _generate import formulas

from handgrad import ops
from handgrad.lessons import catalog

ROOT = Path(__file__).parents[2]

REPORTS = {
    "Forward and backward propagation",
    "Activations",
    "Losses",
    "Attention",
    "Positions",
    "Normalization and residuals",
    "The feed-forward block",
    "Learning",
    "Where the story starts",
}


def test_the_index_has_every_section():
    assert REPORTS <= set(formulas.SECTIONS)


@pytest.mark.parametrize("formula", list(formulas.every()), ids=lambda formula: formula.name)
def test_a_formula_leads_to_a_section_of_a_lesson_and_to_a_line_of_source(formula):
    text = catalog.find(formula.lesson).path.read_text(encoding="utf-8")
    assert re.search(rf"^# ##+ {re.escape(formula.heading)}$", text, re.MULTILINE), formula.heading
    assert formula.sources
    for source in formula.sources:
        assert inspect.getsourcelines(formulas.resolve(source))[1] > 0


def test_no_op_is_missing_from_the_index():
    found = {source.split(":")[0] for formula in formulas.every() for source in formula.sources}
    assert {f"ops.{name}" for name in ops.ALL} <= found


def test_no_optimizer_and_no_foundation_is_missing_from_the_index():
    found = {source.split(":")[0] for formula in formulas.every() for source in formula.sources}
    folders = [ROOT / "src" / "handgrad" / name for name in ("optim", "foundations")]
    modules = {f"{path.parent.name}.{path.stem}" for folder in folders for path in folder.glob("[a-z]*.py")}
    assert modules <= found


def test_every_option_of_every_command_is_in_the_reference(tmp_path):
    from _generate import commands
    from typer.testing import CliRunner

    from handgrad.cli import app

    commands.write(tmp_path)
    text = (tmp_path / "commands.md").read_text(encoding="utf-8")
    for info in app.registered_commands:
        name = info.name or info.callback.__name__
        section = text.split(f"## handgrad {name}\n")[1].split("\n## ")[0]
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", shown)) - {"--help"}
        assert options
        for option in options:
            assert re.search(rf"{option}(?![\w-])", section), f"{name} {option}"


def test_every_public_function_is_in_the_reference(tmp_path):
    from _generate import api

    import handgrad

    api.write(tmp_path)
    text = (tmp_path / "api.md").read_text(encoding="utf-8")
    assert all(f"### {name}\n" in text for name in handgrad.__all__)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the two runs that the pages speak of."""
    import handgrad

    folder = tmp_path_factory.mktemp("pages")
    (folder / "book.txt").write_text("To be, or not to be, that is the question.\n" * 40)
    handgrad.train(
        folder / "book.txt", steps=2, n_layers=1, d_model=8, n_heads=2, batch_size=2,
        out=folder / "runs" / "quick-1", engine="reference", report=lambda event: None,
    )  # fmt: skip
    shutil.copytree(folder / "runs" / "quick-1", folder / "runs" / "mine")
    return folder


@pytest.mark.parametrize("page", ["how-to/take-apart.md", "how-to/write-an-op.md", "../README.md"])
def test_code_on_a_page_runs_from_top_to_bottom(page, runs, monkeypatch):
    monkeypatch.chdir(runs)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    namespace = {}
    for block in blocks:
        if "gradcheck" in block:  # of the op that the block before defines, as a module
            namespace["softplus"] = type(
                "softplus", (), {k: staticmethod(v) for k, v in namespace.items() if inspect.isfunction(v)}
            )
        exec(compile(block, page, "exec"), namespace)
