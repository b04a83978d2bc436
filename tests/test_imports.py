"""What can be imported where compiled libraries are missing, as in a browser's Python."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LESSONS = sorted((ROOT / "lessons").glob("*.py"))
BLOCKED = ("numba", "llvmlite", "tokenizers", "safetensors", "torch", "jax", "jaxtyping")
ABOUT_KERNELS = "19_speed.py"

PROGRAM = f"""
import ast, sys
from pathlib import Path
for name in {BLOCKED}:
    sys.modules[name] = None
import handgrad
config = handgrad.preset("nano")
assert handgrad.loss_and_gradients(config, handgrad.init(config), [[1]], [[2]])[0] > 0
for path in map(Path, sys.argv[1:]):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        statement = ast.unparse(node) if isinstance(node, ast.Import | ast.ImportFrom) else ""
        if "torch" in statement or "sklearn" in statement:
            continue  # a lesson has them if the reader has them
        try:
            exec(statement)
        except ImportError as error:
            print(path.name, statement, error, sep=": ")
"""


@pytest.fixture(scope="module")
def failures() -> list[str]:
    """The imports of all lessons that fail, in a process without these libraries."""
    assert LESSONS
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, LESSONS)], capture_output=True, text=True, check=True
    )
    return ran.stdout.splitlines()


def test_the_lessons_import_nothing_that_is_compiled_but_for_the_one_about_kernels(failures):
    assert [line for line in failures if not line.startswith(ABOUT_KERNELS)] == []


def test_the_lesson_about_kernels_lacks_only_the_compiler(failures):
    lines = [line for line in failures if line.startswith(ABOUT_KERNELS)]
    assert lines  # the libraries were blocked
    assert [line for line in lines if "numba" not in line and "llvmlite" not in line] == []
