"""Models come from other programs' files and go back into them; every command takes them as they are."""

import json

import numpy as np
import pytest

import handgrad
from handgrad import tree
from handgrad.formats.model_folder import Model
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from handgrad.tokenizer import CharacterTokenizer
from tests.cli.test_cli import handgrad_ as handgrad_

CONFIG = PRESETS["llama"].replace(
    vocab_size=4, context_length=8, n_layers=1, n_heads=2, n_kv_heads=1, d_model=8, d_ff=12
)


@pytest.fixture
def run(tmp_path):
    model = Model(CONFIG, init(CONFIG), CharacterTokenizer(" abc"), ends=(3,))
    return handgrad.save(model, tmp_path / "run")


def test_a_model_leaves_is_used_as_it_is_and_comes_back(run, tmp_path, handgrad_):
    folder, back = tmp_path / "hf", tmp_path / "back"
    assert handgrad_("export", run, folder, "--to", "hf")[:2] == (0, f"{folder}\n")
    code, out, _ = handgrad_("info", folder, "--json")
    assert code == 0
    assert json.loads(out)["model"]["d_ff"] == 12
    assert handgrad_("generate", folder, "ab", "--max-tokens", 2)[0] == 0
    assert handgrad_("check", folder, "--json")[0] == 0
    code, out, _ = handgrad_("import", folder, back)
    assert code == 0
    assert "parameters" in out
    for one, other in zip(
        tree.leaves(handgrad.load(run).weights), tree.leaves(handgrad.load(back).weights), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_what_cannot_leave_says_why(run, tmp_path, handgrad_):
    code, _, error = handgrad_("export", run, tmp_path / "out", "--to", "onnx")
    assert code == 2
    assert "choose one of hf, gguf" in error
    code, _, error = handgrad_("export", run, tmp_path / "out", "--to", "hf", "--type", "Q8_0")
    assert code == 2
    assert "choose one of F32, F16, BF16" in error
    assert handgrad_("import", run, run)[0] == 2
