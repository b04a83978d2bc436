"""What the documentation says is so: its index is whole, its reference complete, its code runs."""

import inspect
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from _generate import formulas

from handgrad import gradcheck, ops
from handgrad.lessons import catalog
from handgrad.plots import formulas as pictures

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


LIST = {
    1: ("forward propagation", ["Affine layer", "Network of layers"]),
    2: ("backward propagation", ["Backpropagation", "Affine layer"]),
    3: ("sigmoid", ["Sigmoid"]),
    4: ("ReLU", ["ReLU"]),
    5: ("leaky ReLU", ["Leaky ReLU"]),
    6: ("parametric ReLU", ["Parametric ReLU"]),
    7: ("softmax", ["Softmax", "Softmax, its Jacobian"]),
    8: ("tanh", ["Tanh"]),
    9: ("mean squared error", ["Mean squared error"]),
    10: ("cross-entropy", ["Cross-entropy"]),
    11: ("self-attention", ["Self-attention"]),
    12: ("its gradients", ["Self-attention, its gradients"]),
    13: ("multi-head attention", ["Multi-head attention", "Multi-head attention, its gradients"]),
    14: ("positional encoding", ["Sinusoidal positions"]),
    15: ("layer normalization", ["Layer normalization"]),
    16: ("residual connection", ["Residual"]),
    17: ("feed-forward network", ["Feed-forward block"]),
    18: ("gradient descent on W and b", ["Gradient descent"]),
    19: ("steepest descent, and Adam", ["Gradient descent", "Adam"]),
    20: ("the experiment", ["Two valleys and a saddle", "Gradient descent with clipped steps"]),
    21: ("a network of two layers", ["Network of layers"]),
    22: ("perceptron", ["Perceptron", "AND, and the other Boolean functions"]),
    23: ("broadcasting", ["Broadcasting, undone"]),
}
"""What the two reports list that handgrad grew from, and its names in the index."""


@pytest.mark.parametrize(("number", "what"), LIST.items(), ids=lambda item: str(item))
def test_a_formula_of_the_reports_leads_to_lesson_page_code_proof_and_picture(number, what):
    known = {formula.name: formula for formula in formulas.every()}
    found = [known[name] for name in what[1]]
    for formula in found:
        assert all(inspect.getsource(formulas.resolve(source)) for source in formula.sources)
        lesson = catalog.find(formula.lesson).path.read_text(encoding="utf-8")
        section = lesson.split(f"## {formula.heading}\n")[1].split("\n# ## ")[0]
        assert "$" in section
        assert "pictures." in lesson or "plots." in lesson or "maps." in lesson
    names = {name for formula in found for name in formulas.ops_of(formula)}
    if number in PROVED_BY_OPS:
        assert names
    for name in names:
        assert name in pictures.PICTURES
        rng, op = np.random.default_rng(0), ops.ALL[name]
        proofs = [proof for case in op.cases(rng) for proof in gradcheck.check(op, case, rng)]
        assert proofs
        assert all(proof.passed for proof in proofs)


PROVED_BY_OPS = {*range(1, 18), 21}
"""The others are no ops: descent, the perceptron and broadcasting have proofs of their own kind, in tests."""


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


def test_titles_of_papers_lead_to_the_papers_and_other_quotes_to_nothing():
    from _generate import papers

    text = 'He et al., "Delving deep\ninto rectifiers", 2015; see "What proved means".'
    linked = papers.linked(text)
    assert '["Delving deep\ninto rectifiers"](https://arxiv.org/abs/1502.01852), 2015' in linked
    assert 'see "What proved means".' in linked
    told = 'that it is *"right"* or "wrong": Rosenblatt\'s answer ("The perceptron", 1958), arXiv:1910.02054.'
    linked = papers.linked(told)
    assert '("The perceptron", 1958)' not in linked
    assert linked.endswith("1958), [arXiv:1910.02054](https://arxiv.org/abs/1910.02054).")
    assert papers.linked(linked) == linked


ON_PAPER_ONLY = {"On convergence proofs for perceptrons", "Statistical theory of extreme values"}


def test_every_paper_that_a_lesson_names_by_its_title_is_linked():
    from _generate import papers

    named, unlinked = 0, set()
    for path in (ROOT / "lessons").glob("*.py"):
        for cell in path.read_text(encoding="utf-8").split("# %% [markdown]")[1:]:
            text = " ".join(line.removeprefix("# ") for line in cell.split("# %%")[0].splitlines())
            linked = papers.linked(text)
            named += len(re.findall(r'"\]\(http', linked))
            unlinked |= set(re.findall(r'(?<!\[)"([^"]{4,160})",? \(?(?:19|20)\d\d\b', linked))
    assert unlinked == ON_PAPER_ONLY
    assert named > 60
