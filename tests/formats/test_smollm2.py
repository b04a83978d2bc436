"""SmolLM2-135M-Instruct in Q4_1, where HANDGRAD_SMOLLM2 names the file (docs/how-to/gguf.md says how).

Logits go to 34 there. The formulas in float32 are 1.2e-4 from float64, the kernels and transformers 6e-5.
"""

import os
from pathlib import Path

import numpy as np
import pytest

import handgrad
from handgrad import tree
from handgrad.formats import gguf
from handgrad.formats.quantization import dequantize
from handgrad.model.transformer import Transformer

PATH = os.environ.get("HANDGRAD_SMOLLM2")
pytestmark = pytest.mark.skipif(not PATH, reason="HANDGRAD_SMOLLM2 names no file")

PROMPT = "The capital of France is"
TEXT = (
    f"{PROMPT} Paris, and that of Germany is Berlin. Once upon a time, at 12:45, there was a little engine."
)
BOUND = 5e-4


@pytest.fixture(scope="module")
def model():
    return gguf.load(PATH)


@pytest.fixture(scope="module")
def token_ids(model):
    return model.tokenizer.encode(TEXT)


@pytest.fixture(scope="module")
def exact(model, token_ids):
    """The logits in float64 on the dequantized weights."""
    weights = tree.map(lambda w: w.astype(np.float64), model.weights)
    return Transformer(model.config).forward(weights, token_ids[None])[0][0]


def test_the_capital_of_france_is_paris(model, exact):
    last = len(model.tokenizer.encode(PROMPT)) - 1
    assert model.tokenizer.decode([int(exact[last].argmax())]) == " Paris"


def test_float32_gives_the_logits_of_float64(model, token_ids, exact):
    logits = Transformer(model.config).forward(model.weights, token_ids[None])[0][0]
    np.testing.assert_allclose(logits, exact, atol=BOUND, rtol=0)


def test_the_kernels_give_the_logits_of_float64(model, token_ids, exact):
    logits = handgrad.logits(model.config, model.weights, token_ids[None], engine="cpu", precision="float32")
    np.testing.assert_allclose(logits[0], exact, atol=BOUND, rtol=0)


def test_transformers_gives_the_same_logits(token_ids, exact):
    pytest.importorskip("accelerate", reason="transformers asks for it before it reads GGUF")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        Path(PATH).parent, gguf_file=Path(PATH).name, dtype=torch.float32
    )
    with torch.no_grad():
        logits = theirs(torch.tensor(token_ids[None])).logits[0].double().numpy()
    np.testing.assert_allclose(exact, logits, atol=BOUND, rtol=0)


def test_the_tokenizer_is_transformers_own(model):
    pytest.importorskip("accelerate", reason="transformers asks for it before it reads GGUF")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(Path(PATH).parent, gguf_file=Path(PATH).name)
    for text in (
        TEXT,
        "x = [1234, 5]\n\n\tif x:  # Zürich, 東京 🙂",
        "<|im_start|>user\nHi<|im_end|>\n",
        " ",
    ):
        assert model.tokenizer.encode(text).tolist() == theirs.encode(text, add_special_tokens=False), text
        assert model.tokenizer.decode(model.tokenizer.encode(text)) == text


def test_what_surrounds_a_text_is_read(model):
    assert (model.starts, model.ends) == ((), (2, 0))
    assert "<|im_start|>" in model.chat_template


def test_it_leaves_as_it_came(model, tmp_path):
    again = gguf.load(gguf.save(model, tmp_path / "again.gguf"))
    assert again.config == model.config
    assert again.blocks.keys() == model.blocks.keys()
    for name, (kind, data) in model.blocks.items():
        assert again.blocks[name].kind == kind
        np.testing.assert_array_equal(again.blocks[name].data, data)
    query = "blocks.7.attention.query.weight"
    np.testing.assert_array_equal(
        dequantize(*model.blocks[query]), model.weights.blocks[7].attention.query.weight.T
    )
