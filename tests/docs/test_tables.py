"""What the documentation lists is what there is."""

import pkgutil
import re
from pathlib import Path

import pytest

from handgrad import ops, optim

ROOT = Path(__file__).parents[2]
formulas = pytest.importorskip("_generate.formulas", reason="docs/ is not beside the tests")


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
def test_a_formula_of_the_index_stands_in_the_docstring_of_its_source(formula):
    text = " ".join(formulas.written(formula).split())
    equations = re.findall(r"& (.+?)(?= \\\\\[|  ?\\end\{aligned\}$)", formulas.latex(formula))
    assert equations
    assert all(equation in text for equation in equations)


def test_every_activation_is_in_the_group_of_activations():
    assert set(ops.activation.ACTIVATIONS.values()) < set(ops.GROUPS["Activations"])
