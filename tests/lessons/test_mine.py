"""Answers that are kept take the place of the library's ops: the same model, the same training."""

import re
import sys

import numpy as np
import pytest

import handgrad
from handgrad import UserError, ops
from handgrad.data import batches
from handgrad.lessons import catalog, mine
from handgrad.model.config import preset
from handgrad.model.init import init
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.optim import adamw

BY_HAND = """
import numpy as np


def linear(x, weight, bias):
    z = x @ weight
    return (z if bias is None else z + bias), (x, weight, bias)


def linear_backward(dz, saved):
    x, weight, bias = saved
    rows = x.reshape(-1, x.shape[-1]), dz.reshape(-1, dz.shape[-1])
    return dz @ weight.T, rows[0].T @ rows[1], None if bias is None else rows[1].sum(axis=0)


def gelu(x):
    from handgrad.ops import erf
    e, _ = erf.forward(x / np.sqrt(2))
    return x * (1 + e) / 2, (x, e)


def gelu_backward(dy, saved):
    x, e = saved
    return (dy * ((1 + e) / 2 + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)),)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, y


def softmax_backward(dy, y):
    return (y * (dy - np.sum(dy * y, axis=-1, keepdims=True)),)


def softmax_cross_entropy(logits, targets):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(logs, targets[..., None], axis=-1).mean(), (np.exp(logs), targets)


def softmax_cross_entropy_backward(dloss, saved):
    p, targets = saved
    return (dloss * (p - np.eye(p.shape[-1])[targets]) / targets.size,)


def embedding(weight, token_ids):
    return weight[token_ids], (weight, token_ids)


def embedding_backward(dy, saved):
    weight, token_ids = saved
    dweight = np.zeros_like(weight)
    np.add.at(dweight, token_ids, dy)
    return (dweight,)


def learned_position(x, weight):
    return x + weight[: x.shape[-2]], weight


def learned_position_backward(dy, weight):
    dweight = np.zeros_like(weight)
    dweight[: dy.shape[-2]] = dy.reshape(-1, *dy.shape[-2:]).sum(axis=0)
    return dy, dweight


def attention(q, k, v):
    T = q.shape[-2]
    scores = np.where(np.tri(T, dtype=bool), q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -np.inf)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    return p @ v, (q, k, v, p)


def attention_backward(dy, saved):
    q, k, v, p = saved
    dp = dy @ v.swapaxes(-1, -2)
    ds = p * (dp - np.sum(dp * p, axis=-1, keepdims=True)) / np.sqrt(q.shape[-1])
    return ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ dy


def layer_norm(x, gamma, beta):
    centred = x - x.mean(axis=-1, keepdims=True)
    r = 1 / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    y = gamma * centred * r
    return (y if beta is None else y + beta), (centred * r, r, gamma, beta)


def layer_norm_backward(dy, saved):
    x_hat, r, gamma, beta = saved
    g = gamma * dy
    dx = r * (g - g.mean(axis=-1, keepdims=True) - x_hat * (g * x_hat).mean(axis=-1, keepdims=True))
    rows = tuple(range(dy.ndim - 1))
    return dx, (dy * x_hat).sum(axis=rows), None if beta is None else dy.sum(axis=rows)


def residual(x, h):
    return x + h, None


def residual_backward(dy, saved):
    return dy, dy


def unembedding(x, weight):
    return x @ weight.T, (x, weight)


def unembedding_backward(dz, saved):
    x, weight = saved
    return dz @ weight, dz.reshape(-1, dz.shape[-1]).T @ x.reshape(-1, x.shape[-1])
"""


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """A learner's functions, whose text is to be had, as in a notebook."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "by_hand.py").write_text(BY_HAND)
    monkeypatch.syspath_prepend(str(tmp_path))
    import by_hand

    yield by_hand
    del sys.modules["by_hand"]


def keep(answers, name):
    return mine.keep(name, getattr(answers, name), getattr(answers, f"{name}_backward"))


def test_a_transformer_of_kept_answers_is_the_librarys(answers):
    verdicts = {name: keep(answers, name) for name in mine.PARTS}
    assert [name for name, verdict in verdicts.items() if not verdict] == []
    assert "10 of 10 parts" in verdicts["unembedding"].message
    config = preset("nano").replace(n_layers=2, d_model=16, n_heads=2, context_length=8, vocab_size=11)
    weights = init(config, 1, np.float64)
    token_ids, targets = np.random.default_rng(0).integers(11, size=(2, 3, 8))
    yours = LanguageModel(Transformer(config, ops=mine.ops()))
    loss, gradients = yours.loss_and_gradients(1.0, weights, token_ids, targets)
    expected, theirs = handgrad.loss_and_gradients(config, weights, token_ids, targets)
    assert loss == pytest.approx(expected, rel=1e-12)
    for name, gradient in handgrad.tree.named_leaves(gradients):
        np.testing.assert_allclose(gradient, theirs[name], rtol=1e-9, atol=1e-12)


def test_the_exercises_solutions_train_nano_to_the_same_loss(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, (lesson, code) in solutions().items():
        path = tmp_path / f"solution_{name}.py"
        path.write_text(f"{mine.PRELUDE}\nfrom handgrad.lessons import mine\n\n{code}")
        mine._module(path.stem, path)  # runs it
        assert name in mine.kept(), lesson
    assert mine.kept().keys() == mine.PARTS.keys()

    config = preset("nano").replace(vocab_size=40)
    tokens = np.random.default_rng(2).integers(40, size=5000)
    losses = {}
    for whose, which in (("yours", mine.ops()), ("ours", ops)):
        flat, weights = handgrad.tree.pack(init(config, 1))
        model, state = LanguageModel(Transformer(config, ops=which)), adamw.init(flat)
        rng = np.random.default_rng(3)
        losses[whose] = []
        for _ in range(4):
            batch = batches.draw(tokens, 4, 64, rng)
            loss, gradients = model.loss_and_gradients(1.0, weights, *batch)
            flat[:], state = adamw.update(flat, handgrad.tree.pack(gradients)[0], state, learning_rate=1e-3)
            losses[whose].append(float(loss))
    assert losses["yours"] == pytest.approx(losses["ours"], rel=1e-5)
    assert losses["ours"][-1] != losses["ours"][0]


def solutions():
    """The solution of each exercise that keeps an op: the cell's code, and its lesson."""
    found = {}
    for lesson in catalog.lessons():
        cells = lesson.path.read_text(encoding="utf-8").split("# %%")
        for cell in cells:
            kept = re.search(r'^mine\.keep\("(\w+)"', cell, re.MULTILINE)
            if kept and cell.lstrip().startswith('tags=["solution"'):
                found[kept.group(1)] = (lesson.name, cell.split("\n", 1)[1])
    return found


def test_the_kept_answers_themselves_are_what_runs(answers, monkeypatch):
    for name in mine.PARTS:
        keep(answers, name)
    yours = mine.ops()
    for name in mine.PARTS:

        def not_ours(*inputs, **settings):
            raise AssertionError("ours was asked")

        monkeypatch.setattr(ops.ALL[name], "forward", not_ours)
    config = preset("nano").replace(n_layers=1, d_model=8, n_heads=2, context_length=4, vocab_size=5)
    token_ids = np.array([[1, 2, 3, 4]])
    model = LanguageModel(Transformer(config, ops=yours))
    model.loss_and_gradients(1.0, init(config, 1), token_ids, token_ids)


def test_what_an_exercise_did_not_ask_for_is_answered_by_ours(answers):
    keep(answers, "attention")
    keep(answers, "residual")
    config = preset("nano").replace(
        n_layers=1, d_model=8, n_heads=2, context_length=4, vocab_size=5, dropout=0.5
    )
    weights, token_ids = init(config, 1), np.array([[1, 2, 3, 4]])
    results = [
        LanguageModel(Transformer(config, ops=which)).forward(
            weights, token_ids, token_ids, rng=np.random.default_rng(3)
        )[0]
        for which in (mine.ops(), ops)
    ]
    assert results[0] == results[1]


def test_a_wrong_answer_is_not_kept(answers):
    verdict = mine.keep("residual", answers.residual, lambda dy, saved: (dy, 2 * dy))
    assert verdict.state == "wrong"
    assert mine.kept() == {}
    assert mine.keep("residual", lambda x, h: ..., lambda dy, saved: ...).state == "unsolved"
    assert mine.keep("softmax", answers.gelu, answers.gelu_backward).state == "wrong"
    with pytest.raises(UserError, match="no part"):
        mine.keep("rope", answers.residual, answers.residual_backward)


def test_progress_says_whose_each_part_is_and_forgetting_gives_it_back(answers):
    keep(answers, "gelu")
    rows = dict(mine.progress().rows())
    assert rows["gelu"] == "yours"
    assert rows["linear"] == "ours"
    assert "<td>lesson 7</td>" in mine.progress()._repr_html_()
    mine.forget("gelu")
    assert mine.kept() == {}


def test_a_kept_file_that_does_not_run_is_named(answers):
    keep(answers, "gelu")
    (mine.FOLDER / "gelu.py").write_text("forward = 1 / 0\n")
    with pytest.raises(UserError, match=r"gelu.py cannot be read: ZeroDivisionError"):
        mine.ops()
