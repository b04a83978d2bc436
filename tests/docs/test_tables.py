"""What the documentation lists is what there is."""

import ast
import inspect
import itertools
import pkgutil
import re
from pathlib import Path

import pytest
from _generate import formulas, pages
from _generate import ops as op_pages

import handgrad.kernels.twins as twins_of_ops
from handgrad import gradcheck, ops, optim

ROOT = Path(__file__).parents[2]


def test_the_table_of_formulas_in_the_readme_lists_every_op_in_its_group_and_every_optimizer():
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("| part | files |")[1].split("\n\n")[0]
    rows = dict(re.findall(r"^\| ([^|]+) \| (.+) \|$", table, re.MULTILINE))
    files = {part: set(re.findall("`([a-z_]+)`", names)) for part, names in rows.items() if part != "---"}
    learning = files.pop("learning, in `optim/`")
    assert files == {
        group.lower(): {op.__name__.rpartition(".")[2] for op in members}
        for group, members in ops.GROUPS.items()
    }
    assert learning == {module.name for module in pkgutil.iter_modules(optim.__path__)}


@pytest.mark.parametrize("formula", list(formulas.every()), ids=lambda formula: formula.name)
def test_a_formula_of_the_index_is_shown_with_its_condition(formula):
    shown = formulas.latex(formula)
    for row in pages.DISPLAY.findall(" ".join(formulas.written(formula).split())):
        for equation, after in itertools.pairwise(pages.equations(row)):
            condition = after if after.startswith(r"\text") else ""
            assert equation not in shown or condition in shown


def test_every_activation_is_in_the_group_of_activations():
    assert set(ops.activation.ACTIVATIONS.values()) < set(ops.GROUPS["Activations"])


def test_every_twin_is_shown_on_the_page_of_its_op():
    twins = {module.name for module in pkgutil.iter_modules(twins_of_ops.__path__)}
    assert twins == {name for name in ops.ALL if "/kernels/twins/" in "".join(op_pages.twin(name))}


def test_the_page_on_the_proof_quotes_the_definition_in_full():
    page = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8")
    quoted = page.split("-->")[1].split("\n## ")[0]
    assert quoted.split() == inspect.getdoc(gradcheck).split()


def test_the_readme_shows_layer_norm_as_it_is():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = next(block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "rstd" in block)
    assert functions(shown) == functions(inspect.getsource(ops.layer_norm))


def functions(code: str) -> list[str]:
    """The op's two functions without annotations, comments and layout."""
    found = [node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
    for function in found:
        function.returns = None
        for argument in (*function.args.args, *function.args.kwonlyargs):
            argument.annotation = None
    return [ast.unparse(f) for f in found if f.name in ("forward", "backward")]
