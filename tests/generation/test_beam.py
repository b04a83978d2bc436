"""Beam search: with enough beams the likeliest text of all, and with few the ids that transformers finds."""

import itertools

import numpy as np
import pytest

from handgrad import api, tree
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.generation.beam import Beam, Settings, beam_search, search
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=5, context_length=8, n_layers=2, n_heads=2, d_model=8, position="rope")


def model(**known):
    rng = np.random.default_rng(5)
    weights = tree.map(lambda w: w + 0.5 * rng.normal(size=w.shape).astype(np.float32), init(CONFIG))
    return Model(CONFIG, weights, **known)


def test_with_enough_beams_the_likeliest_text_of_all_is_found():
    ours, prompt = model(ends=(0,)), [1, 2]

    def log_probability(written):
        logits, _ = Transformer(CONFIG).forward(ours.weights, np.array([[*prompt, *written]]))
        logits = logits[0, 1:-1].astype(np.float64)
        following = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return following[np.arange(len(written)), list(written)].sum()

    texts = [
        text
        for n in (1, 2, 3)
        for text in itertools.product(range(5), repeat=n)
        if 0 not in text[:-1] and (n == 3 or text[-1] == 0)
    ]
    best = max(texts, key=lambda text: log_probability(text) / len(text) ** 0.5)
    found = beam_search(ours, prompt, n_beams=256, max_tokens=3, length_penalty=0.5)
    assert found[0].token_ids == best
    assert found[0].score == pytest.approx(log_probability(best) / len(best) ** 0.5, abs=1e-4)
    assert len(found) == len(texts)
    assert beam_search(ours, prompt, n_beams=4, max_tokens=3, engine="cpu")[0].token_ids in texts


def test_a_context_that_is_full_ends_the_beams_and_of_a_longer_prompt_the_end_is_read():
    assert [len(beam.token_ids) for beam in beam_search(model(), [1] * 6, n_beams=2)] == [3, 3]
    longer = beam_search(model(starts=(4,)), [2] * 9 + [1] * 7, n_beams=2)
    assert longer == beam_search(model(), [4] + [1] * 7, n_beams=2)
    assert len(longer[0].token_ids) == 1


def test_a_beam_that_is_over_leaves_and_the_others_go_on():
    following = np.log([[0.4, 0.35, 0.25]])

    def follow(beams):
        return np.repeat(following, len(beams), axis=0)

    found = search(follow, Settings(n_beams=2, max_tokens=3, length_penalty=0.0, ends=(0,)))
    assert found[0] == Beam((0,), np.log(0.4))
    assert found[1].token_ids == (1, 0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_beams": 0}, "n_beams must be a whole number from 1"),
        ({"n_beams": 257}, "at most 256 beams; got 257"),
        ({"length_penalty": float("nan")}, "length_penalty is a power of the length"),
        ({"max_tokens": 0}, "max_tokens must be a whole number from 1"),
    ],
)
def test_beams_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        beam_search(model(), [1], **settings)


@pytest.fixture(scope="module")
def gpt2():
    """A random GPT-2 of transformers, and its weights by our names."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install handgrad[oracles]")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    torch.manual_seed(1)
    D, layers = 16, 2
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=23, n_positions=40, n_embd=D, n_layer=layers, n_head=2, initializer_range=0.6,
            bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )
    ).eval()  # fmt: skip
    held = {name: array.numpy() for name, array in theirs.state_dict().items()}
    found = {"embedding": held["transformer.wte.weight"], "positions": held["transformer.wpe.weight"]}
    parts = {"norm1": "ln_1", "norm2": "ln_2", "attention.output": "attn.c_proj"}
    parts |= {"feed_forward.up": "mlp.c_fc", "feed_forward.down": "mlp.c_proj"}
    places = {"norm": "ln_f"} | {
        f"blocks.{i}.{our}": f"h.{i}.{name}" for i in range(layers) for our, name in parts.items()
    }
    for ours, name in places.items():
        names = ("gamma", "beta") if "norm" in ours else ("weight", "bias")
        for part, of_theirs in zip(names, ("weight", "bias"), strict=True):
            found[f"{ours}.{part}"] = held[f"transformer.{name}.{of_theirs}"]
    for i, (j, part) in itertools.product(range(layers), enumerate(("query", "key", "value"))):
        for kind in ("weight", "bias"):
            whole = held[f"transformer.h.{i}.attn.c_attn.{kind}"]
            found[f"blocks.{i}.attention.{part}.{kind}"] = whole[..., j * D : (j + 1) * D]
    config = ModelConfig(
        vocab_size=23, context_length=40, n_layers=layers, n_heads=2, d_model=D, activation="gelu_tanh"
    )
    return torch, theirs, api.from_named(config, found)


@pytest.mark.parametrize(
    ("n_beams", "length_penalty", "ends"),
    [(1, 1.0, (0,)), (3, 1.0, ()), (3, 1.0, (0,)), (4, 0.0, (3, 7)), (5, 2.0, (3, 7)), (4, -1.0, (0,))],
)
def test_beams_are_those_of_transformers(gpt2, ends, n_beams, length_penalty, rng):
    torch, theirs, ours = gpt2
    ours = Model(ours.config, ours.weights, ends=ends)
    prompt = rng.integers(23, size=4).tolist()
    with np.errstate(all="ignore"):
        expected = theirs.generate(
            torch.tensor([prompt]), num_beams=n_beams, max_new_tokens=12, length_penalty=length_penalty,
            num_return_sequences=n_beams, do_sample=False, eos_token_id=list(ends) or None, pad_token_id=22,
        )  # fmt: skip
    found = beam_search(
        ours, prompt, n_beams=n_beams, max_tokens=12, length_penalty=length_penalty, engine="cpu"
    )
    longest = expected.shape[1] - 4
    padded = [[*beam.token_ids, *[22] * (longest - len(beam.token_ids))] for beam in found]
    assert padded == expected[:, 4:].tolist()
