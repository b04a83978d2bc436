"""The page on weights from elsewhere: its code runs, and agrees with the library the weights are from."""

import re
from pathlib import Path

import numpy as np
import pytest

import handgrad
from handgrad.tokenizer import train

torch = pytest.importorskip("torch", reason="needs torch: pip install handgrad[oracles]")
transformers = pytest.importorskip("transformers", reason="needs transformers")

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "bring-weights.md"
TEXT = "To be, or not to be: that is the question. " * 9


@pytest.fixture
def gpt2(tmp_path, monkeypatch):
    """A GPT-2 of random weights in place of the published one, and its tokenizer's files."""
    tokenizer = train("bpe", [TEXT], vocab_size=280)
    tokenizer._tokenizer.model.save(str(tmp_path))
    torch.manual_seed(0)
    with np.errstate(all="ignore"):  # transformers fills masks with what overflows
        config = transformers.GPT2Config(
            vocab_size=tokenizer.vocab_size, n_positions=32, n_embd=128, n_layer=3, n_head=2,
            initializer_range=0.2, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        model = transformers.GPT2LMHeadModel(config).eval()
    monkeypatch.setattr(transformers.GPT2LMHeadModel, "from_pretrained", lambda name: model)
    monkeypatch.chdir(tmp_path)
    return model


def test_code_of_the_page_gives_what_transformers_gives(gpt2, capsys):
    page = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), page)

    with np.errstate(all="ignore"):
        theirs = gpt2(torch.tensor(page["token_ids"]), output_hidden_states=True)
    # float32 in both: some hundred roundings of 6e-8
    np.testing.assert_allclose(page["logits"], theirs.logits.detach().numpy(), rtol=1e-4, atol=1e-4)

    # all hidden states but the last, which transformers gives behind its final norm
    hidden = theirs.hidden_states[1:-1]
    assert len(page["outputs"]) == len(page["gradients"]) == 3
    likeliest = theirs.logits[0, -1].max()
    slopes = torch.autograd.grad(likeliest, hidden)
    for ours, expected in zip(page["outputs"], hidden, strict=False):
        np.testing.assert_allclose(ours, expected.detach().numpy(), rtol=1e-4, atol=1e-4)
    for ours, expected in zip(page["gradients"], slopes, strict=False):
        np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-3, atol=1e-4)

    kept = handgrad.load("my-gpt2")
    np.testing.assert_array_equal(kept.weights.embedding, page["model"].weights.embedding)
    written = handgrad.generate(kept, "To be", max_tokens=20)
    assert written
    assert capsys.readouterr().out == written + "\n"
