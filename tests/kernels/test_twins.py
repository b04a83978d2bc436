"""Every twin computes what its op computes: on the op's own cases, and on shapes no tile was made for."""

import copy
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from handgrad import ops, tree
from handgrad.counted import Counted
from handgrad.kernels import products_bfloat16
from handgrad.kernels.arena import Arena, aligned
from handgrad.kernels.attention_panels import QUERIES, SCORES
from handgrad.kernels.precision import BFLOAT16, FLOAT32, INT16, OF
from handgrad.kernels.quantize import TOP
from handgrad.kernels.twins import Twins
from handgrad.kernels.twins.next_token_loss import logit_rows
from handgrad.kernels.workspace import Workspace
from handgrad.model.config import Activation
from handgrad.model.ops import NAMES
from handgrad.ops import rope
from tests.kernels.conftest import weight, weights
from tests.rounding import RoundedAttention, U, rounded

EPS = float(np.finfo(np.float32).eps)
ROUNDINGS = 64
"""An element is a sum of at most some hundred products here, and passes through a few such sums: float32's
roundings add up like a random walk, to some tens of units in the last place of the largest element."""

HALF_UNITS = 16
"""Halves of a unit, a 2047th (or 127th) of the largest number of a row: an operand is off by one. A slope, in
bfloat16, is off by 2^-9, eight of a 2047th; the operands of a few products, one after another, by as many."""

WEIGHTS = {
    "linear": ("weight", "bias"),
    "layer_norm": ("gamma", "beta"),
    "rms_norm": ("gamma",),
    "embedding": ("weight",),
    "unembedding": ("weight",),
    "learned_position": ("weight",),
    "activation": ("alpha",),
    "feed_forward": ("up", "down", "gate", "alpha"),
    "multi_head_attention": ("query", "key", "value", "output", "query_norm", "key_norm"),
    "next_token_loss": ("weight", "bias"),
    "residual": (),
    "dropout": (),
    "sinusoidal_position": (),
}
"""Ops that have a twin of the same signature, and which of their inputs are weights."""


def has_twin(name: str, inputs: dict[str, Any]) -> bool:
    """Softmax is no activation of a transformer: no twin knows it."""
    return name in WEIGHTS and inputs.get("name") != "softmax"


def test_the_twins_of_all_that_a_transformer_calls_are_compared():
    assert set(NAMES) <= set(WEIGHTS)


CASES = [
    pytest.param(name, inputs, id=f"{name}-{i}")
    for name, op in ops.ALL.items()
    for i, inputs in enumerate(op.cases(np.random.default_rng(3)))
    if has_twin(name, inputs)
]


def assert_close(actual: Any, expected: Any, roundings: float = ROUNDINGS, least: float = 0.0) -> None:
    """Equal but for so many roundings of the largest element, or of `least`."""
    expected = np.asarray(expected)
    scale = max(float(np.max(np.abs(expected), initial=0.0)), least) or 1.0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=roundings * EPS * scale)


def single(value: Any) -> Any:
    """Every float array in float32."""
    return tree.map(lambda a: a.astype(np.float32) if np.issubdtype(a.dtype, np.floating) else a, value)


def compare(
    name: str, inputs: dict[str, Any], twins: Twins, rng: np.random.Generator, roundings: float = ROUNDINGS
) -> None:
    """Forward and backward of the twin against the op's in float64."""
    inputs = {key: single(value) for key, value in inputs.items()}
    if inputs.get("rng") is not None:
        inputs["rng"] = Counted(11)
    exact = {key: tree.map(lambda a: a.astype(np.float64) if a.dtype == np.float32 else a, value)
             for key, value in copy.deepcopy(inputs).items()}  # fmt: skip
    y, saved = ops.ALL[name].forward(**exact)
    dy = np.asarray(rng.normal(size=np.shape(y))).astype(np.float32)
    expected = ops.ALL[name].backward(dy.astype(np.float64), saved)

    kernels = twins.linear.workspace.kernels.products
    made = {key: weights(value, kernels) if key in WEIGHTS[name] else value for key, value in inputs.items()}
    actual, kept = getattr(twins, name).forward(**made)
    gradients = getattr(twins, name).backward(dy if dy.ndim else float(dy), kept)
    largest = max(float(np.max(np.abs(g))) for g in tree.leaves(expected))
    least = [0.0, *[largest / 10 for _ in tree.leaves(expected)]]  # a key's bias has a gradient of zero
    if name == "linear":
        least = sizes_of_sums(exact, dy)
    for ours, theirs, size in zip(
        tree.leaves([actual, gradients]), tree.leaves([y, expected]), least, strict=True
    ):
        assert_close(ours, theirs, roundings, least=size)


def sizes_of_sums(inputs: dict[str, Any], dz: np.ndarray) -> list[float]:
    """The largest sum of products' sizes, in z and in each gradient: a sum's roundings are of that size,
    however much of it cancels."""
    z, saved = ops.linear.forward(**{key: tree.map(np.abs, value) for key, value in inputs.items()})
    return [float(np.max(x)) for x in tree.leaves([z, ops.linear.backward(np.abs(dz), saved)])]


@pytest.mark.parametrize(("name", "inputs"), CASES)
def test_a_twin_equals_its_op_on_the_ops_cases(name, inputs, twins, rng):
    compare(name, inputs, twins, rng)


@pytest.mark.parametrize(("name", "inputs"), CASES)
def test_a_twin_of_scaled_integers_equals_its_op_to_a_few_units(name, inputs, rng):
    twins = Twins(Workspace(Arena(1 << 16), aligned(1 << 16), INT16))
    compare(name, inputs, twins, rng, roundings=HALF_UNITS / (2 * TOP) / EPS)


@pytest.mark.parametrize("name", [name for name in get_args(Activation) if name != "prelu"])
@pytest.mark.parametrize("gated", [False, True])
def test_feed_forward_blocks_of_every_activation(name, gated, twins, rng):
    def layer(m, n):
        return ops.feed_forward.Linear(rng.normal(size=(m, n)) / m**0.5, rng.normal(size=n))

    inputs = {
        "x": rng.normal(size=(3, 7, 12)),
        "up": layer(12, 20),
        "down": layer(20, 12),
        "activation": name,
    }
    compare("feed_forward", inputs | ({"gate": layer(12, 20)} if gated else {}), twins, rng)


sizes = st.integers(1, 70)


@settings(max_examples=60, deadline=None)
@given(M=sizes, K=sizes, N=sizes, bias=st.booleans(), seed=st.integers(0, 99))
def test_products_of_any_shape(M, K, N, bias, seed):
    rng = np.random.default_rng(seed)
    inputs = {"x": rng.normal(size=(M, K)), "weight": rng.normal(size=(K, N))}
    if bias:
        inputs["bias"] = rng.normal(size=N)
    compare("linear", inputs, Twins(Workspace(Arena(1 << 16), aligned(1 << 16))), rng)


@pytest.mark.parametrize(("M", "K", "N"), [(1000, 3, 2), (5, 900, 17), (385, 401, 3), (800, 5, 400)])
def test_products_longer_than_a_block(M, K, N, twins, rng):
    inputs = {"x": rng.normal(size=(M, K)), "weight": rng.normal(size=(K, N))}
    compare("linear", inputs, twins, rng)


def attention_inputs(rng, B, G, R, T, S, K):
    shapes = (("q", G * R, T), ("k", G, S), ("v", G, S))
    return {name: rng.normal(size=(B, n, m, K)).astype(np.float32) for name, n, m in shapes}


def side_by_side(x):
    """(B, H, T, K) as the kernel has it, (B, T, H K)."""
    B, H, T, K = x.shape
    return np.ascontiguousarray(x.swapaxes(1, 2)).reshape(B, T, H * K)


def compare_attention(rng, twins, *, dropout=0.0, causal=True, **shape):
    inputs = attention_inputs(rng, **shape)
    settings = {"dropout": dropout, "causal": causal}
    y, saved = ops.attention.forward(
        **{name: x.astype(np.float64) for name, x in inputs.items()}, rng=Counted(5), **settings
    )
    dy = rng.normal(size=y.shape).astype(np.float32)
    expected = ops.attention.backward(dy.astype(np.float64), saved)
    arrays = [side_by_side(x) for x in inputs.values()]
    heads = {"n_heads": shape["G"] * shape["R"], "n_kv_heads": shape["G"]}
    actual, kept = twins.attention.forward(*arrays, **heads, rng=Counted(5), **settings)
    assert_close(actual, side_by_side(y))
    largest = max(float(np.max(np.abs(g))) for g in expected)
    for ours, theirs in zip(twins.attention.backward(side_by_side(dy), kept), expected, strict=True):
        assert_close(ours, side_by_side(theirs), least=largest / 10)  # a sure choice has a gradient of zero


any_attention = given(
    B=st.integers(1, 2),
    G=st.integers(1, 3),
    R=st.integers(1, 2),
    T=st.integers(1, 110),
    past=st.integers(0, 20),
    K=st.integers(1, 36),
    dropout=st.sampled_from([0.0, 0.3]),
    causal=st.booleans(),
    seed=st.integers(0, 99),
)


@settings(max_examples=40, deadline=None)
@any_attention
def test_attention_of_any_shape(B, G, R, T, past, K, dropout, causal, seed):
    twins = Twins(Workspace(Arena(1 << 16), aligned(1 << 10)))  # scratch grows as it is needed
    shape = {"B": B, "G": G, "R": R, "T": T, "S": T + past, "K": K}
    compare_attention(np.random.default_rng(seed), twins, dropout=dropout, causal=causal, **shape)


@settings(max_examples=40, deadline=None)
@any_attention
@example(B=1, G=1, R=2, T=QUERIES + 41, past=7, K=36, dropout=0.3, causal=True, seed=1)
@example(B=1, G=1, R=1, T=QUERIES + 41, past=7, K=8, dropout=0.0, causal=False, seed=2)
@example(B=1, G=1, R=1, T=71, past=SCORES // 64, K=8, dropout=0.3, causal=True, seed=3)  # 32 at a time
def test_bfloat16_attention_is_that_of_rounded_operands(B, G, R, T, past, K, dropout, causal, seed):
    rng = np.random.default_rng(seed)
    twins = Twins(Workspace(Arena(1 << 16), aligned(1 << 10), BFLOAT16))
    inputs = attention_inputs(rng, B=B, G=G, R=R, T=T, S=T + past, K=K)
    settings = {"dropout": dropout, "causal": causal}
    q, k, v = (x.astype(np.float64) for x in inputs.values())
    exact, saved = ops.attention.forward(q, k, v, **settings, rng=Counted(5))
    expected, kept = RoundedAttention.forward(q, k, v, **settings, rng=Counted(5))
    dy = rng.normal(size=exact.shape).astype(np.float32)
    arrays = [side_by_side(x) for x in inputs.values()]
    y, ours = twins.attention.forward(*arrays, n_heads=G * R, n_kv_heads=G, rng=Counted(5), **settings)
    # A score is off by at most (2u + u^2) |q| |k| / sqrt(K), d at most in a row; a probability, whose
    # numerator and denominator are each off by e^d, by e^2d; then it and the value are rounded once more.
    sizes = np.abs(q).reshape(B, G, R, T, K) @ np.abs(k)[:, :, None].mT * saved.scale
    d = (2 * U + U**2) * sizes.max(-1, keepdims=True)
    weighed = (saved.dropped @ np.abs(v)[:, :, None]) * (np.exp(2 * d) * (1 + U) ** 2 - 1)
    bound = side_by_side(weighed.reshape(exact.shape)) + ROUNDINGS * EPS * np.abs(v).max()
    assert np.all(np.abs(y - side_by_side(exact)) <= bound)

    # a number that float32 puts on the other side of a tie is rounded the other way; there are few of them
    assert np.max(np.abs(y - side_by_side(expected))) <= U * np.abs(v).max()
    rounded_gradients = RoundedAttention.backward(dy.astype(np.float64), kept)
    largest = max(np.abs(g).max() for g in rounded_gradients)
    for actual, gradient in zip(
        twins.attention.backward(side_by_side(dy), ours), rounded_gradients, strict=True
    ):
        assert np.max(np.abs(actual - side_by_side(gradient))) <= 4 * U * max(
            largest / 10, np.abs(gradient).max()
        )


@pytest.mark.parametrize(("kernels", "share"), [(FLOAT32, 100 * EPS), (BFLOAT16, 8 * U)])
def test_probabilities_are_exact_where_scores_are_large(kernels, share, rng):
    """Scores of 50,000, exact in bfloat16 too: 1000 x 100 and small whole numbers, over sqrt(4)."""
    q, k, v, dy = rng.integers(-2, 3, size=(4, 1, 1, 40, 4)).astype(np.float32)
    q[..., 0], k[..., 0] = 1000, 100
    y, saved = ops.attention.forward(*(x.astype(np.float64) for x in (q, k, v)))
    assert 0.1 < np.median(saved.probs.y.max(-1)) < 0.9  # no row is a sure choice
    expected = ops.attention.backward(dy.astype(np.float64), saved)
    twins = Twins(Workspace(Arena(1 << 16), aligned(64), kernels))
    actual, kept = twins.attention.forward(*map(side_by_side, (q, k, v)), n_heads=1, n_kv_heads=1)
    gradients = twins.attention.backward(side_by_side(dy), kept)
    largest = np.abs(expected[1]).max()
    for ours, theirs, scale in zip((actual, *gradients), (y, *expected), (2, 100, largest, 20), strict=True):
        np.testing.assert_allclose(ours, side_by_side(theirs), rtol=0, atol=share * scale)


def test_large_scores_neither_overflow_nor_vanish(twins, rng):
    inputs = attention_inputs(rng, B=1, G=1, R=1, T=20, S=20, K=8)
    inputs["q"] *= 1000
    y, _ = ops.attention.forward(**{name: x.astype(np.float64) for name, x in inputs.items()})
    actual, _ = twins.attention.forward(*map(side_by_side, inputs.values()), n_heads=1, n_kv_heads=1)
    assert_close(actual, side_by_side(y), roundings=3000)  # the scores themselves are rounded at 1,000


@pytest.mark.parametrize("kernels", [FLOAT32, BFLOAT16])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_that_are_not_finite_do_not_reach_what_a_query_does_not_see(kernels, dropout, rng):
    """A query's dP overflows, though it and all it meets are finite: dS is NaN, but for masked keys."""
    twins = Twins(Workspace(Arena(1 << 16), aligned(64), kernels))
    q, k, v = (rng.normal(size=(1, 40, 4)).astype(np.float32) for _ in range(3))
    settings = {"dropout": dropout, "rng": Counted(5)}
    y, kept = twins.attention.forward(q, k, v, n_heads=1, n_kv_heads=1, **settings)
    dy = np.ones_like(y)
    dy[0, 8] = 3e38 * np.sign(v[0, 8])
    dq, dk, dv = twins.attention.backward(dy, kept)
    assert np.isnan(dq[0, 8]).all()
    for gradient in (np.delete(dq, 8, axis=1), dk[:, 9:], dv[:, 9:]):
        assert np.isfinite(gradient).all()


@settings(max_examples=25, deadline=None)
@given(M=sizes, D=st.integers(1, 200), centred=st.booleans(), mean=st.sampled_from([0.0, 1000.0]))
def test_norms_of_any_shape(M, D, centred, mean):
    rng = np.random.default_rng(M + D)
    name = "layer_norm" if centred else "rms_norm"
    inputs = {"x": mean + rng.normal(size=(M, D)), "gamma": rng.normal(size=D)}
    twins = Twins(Workspace(Arena(1 << 16), aligned(64)))
    x = inputs["x"].astype(np.float32)
    y, _ = ops.ALL[name].forward(x.astype(np.float64), inputs["gamma"])
    gamma = weight(inputs["gamma"].astype(np.float32))
    actual, _ = getattr(twins, name).forward(x, gamma)
    deviation = np.std(x.astype(np.float64), axis=-1).min() if centred else 1.0
    # the mean is rounded as float32 rounds numbers of its size; that error grows as the deviation shrinks
    assert_close(actual, y, roundings=ROUNDINGS + 4 * mean / max(deviation, 1e-5**0.5))


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_a_row_whose_squares_overflow_is_nan_and_not_its_shift(name, twins):
    x = np.array([[1e30, -1e30], [1.0, 2.0]], np.float32)
    twin = getattr(twins, name)
    y, saved = twin.forward(x, weight(np.ones(2, np.float32)))
    assert np.isnan(y).tolist() == [[True, True], [False, False]]
    dx, *_ = twin.backward(np.ones_like(x), saved)
    assert np.isnan(dx).tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("V", [1, 2, 65, 1031])
@pytest.mark.parametrize("tied", [True, False])
def test_losses_over_odd_vocabularies(V, tied, twins, rng, monkeypatch):
    monkeypatch.setattr("handgrad.kernels.twins.next_token_loss.LOGITS", 60 * V)  # several parts
    targets = rng.integers(V, size=(2, 67))
    targets[1, :5] = -1
    shape = (V, 9) if tied else (9, V)
    inputs = {
        "x": rng.normal(size=(2, 67, 9)),
        "weight": rng.normal(size=shape),
        "bias": None,
        "targets": targets,
    }
    compare("next_token_loss", {**inputs, "tied": tied}, twins, rng)


def test_where_no_target_counts_loss_and_gradient_are_zero(twins, rng):
    x, table = single((rng.normal(size=(3, 4)), rng.normal(size=(5, 4))))
    table = weight(table)
    loss, dx, dtable, _ = twins.next_token_loss.loss_and_gradients(
        1.0, x, table, None, np.full(3, -1), tied=True
    )
    assert loss == 0.0
    assert not dx.any()
    assert not dtable.any()


def test_logits_are_made_in_even_parts_that_fit():
    assert logit_rows(384, 65) == 384
    assert logit_rows(1024, 50_257) == 147  # seven parts, 168 rows at most
    assert logit_rows(7, 10**9) == 7


def test_rotary_positions_turn_and_turn_back(twins, rng):
    from handgrad.kernels import elementwise

    x = rng.normal(size=(2, 5, 3 * 4)).astype(np.float32)
    heads = x.reshape(2, 5, 3, 4).swapaxes(1, 2)
    expected, saved = rope.forward(heads.astype(np.float64), base=50.0)
    cos, sin = (a.astype(np.float32) for a in saved)
    turned, back = np.empty((2, 10, 12), np.float32)
    elementwise.turn(turned, x.reshape(10, 12), cos, sin, 3, np.float32(1))
    assert_close(turned.reshape(2, 5, 12), side_by_side(expected))
    elementwise.turn(back, turned, cos, sin, 3, np.float32(-1))
    assert_close(back, x.reshape(10, 12))


@settings(max_examples=40, deadline=None)
@given(M=sizes, K=sizes, N=sizes, seed=st.integers(0, 99))
def test_bfloat16_products_are_those_of_rounded_operands(M, K, N, seed):
    rng = np.random.default_rng(seed)
    twins = Twins(Workspace(Arena(1 << 16), aligned(64), BFLOAT16))
    x, w, b, dz = single([rng.normal(size=shape) for shape in ((M, K), (K, N), (N,), (M, N))])
    exact = [a.astype(np.float64) for a in (x, w, b, dz)]
    x_, w_, dz_ = (rounded(a) for a in (x, w, dz))
    made, bias = weight(w, products_bfloat16), weight(b)
    z, saved = twins.linear.forward(x.copy(), made, bias)
    dx, dw, db = twins.linear.backward(dz, saved)
    X, W, B, DZ = exact
    # two numbers that are each off by at most the share u make a product that is off by 2u + u^2
    share = 2 * U + U**2
    for actual, of_rounded, of_exact, bound in (
        (z, x_ @ w_ + B, X @ W + B, share * np.abs(X) @ np.abs(W)),
        (dx, dz_ @ w_.T, DZ @ W.T, share * np.abs(DZ) @ np.abs(W.T)),
        (dw, x_.T @ dz_, X.T @ DZ, share * np.abs(X.T) @ np.abs(DZ)),
    ):
        assert_close(actual, of_rounded)
        assert np.all(np.abs(actual - of_exact) <= bound + ROUNDINGS * EPS * (1 + np.abs(of_exact).max()))
    assert_close(db, DZ.sum(0))


@pytest.mark.parametrize(("M", "K", "N"), [(600, 40, 33), (130, 65, 800), (301, 800, 70), (230, 2080, 40)])
def test_bfloat16_products_longer_than_a_block(M, K, N, twins_bfloat16, rng):
    x, w, dz = single((rng.normal(size=(M, K)), rng.normal(size=(K, N)), rng.normal(size=(M, N))))
    z, saved = twins_bfloat16.linear.forward(x.copy(), weight(w, products_bfloat16))
    dx, dw, _ = twins_bfloat16.linear.backward(dz, saved)
    x_, w_, dz_ = (rounded(a) for a in (x, w, dz))
    for actual, expected in ((z, x_ @ w_), (dx, dz_ @ w_.T), (dw, x_.T @ dz_)):
        assert_close(actual, expected)


@pytest.mark.parametrize("kernels", OF.values(), ids=OF)
def test_the_first_gradient_of_a_step_counts_for_what_was_there_before(kernels, rng):
    made, twins = kernels.products, Twins(Workspace(Arena(1 << 16), aligned(64), kernels))
    M, K, N = 600, 70, 40  # more than one block of rows, and edges
    x, dz = single((rng.normal(size=(M, K)), rng.normal(size=(M, N))))
    first, second, untouched = (weight(np.zeros((K, N), np.float32), made) for _ in range(3))
    for stale in (second, untouched):
        stale.sums[...] = np.nan
        stale.is_zero = True
    for each in (first, second):
        for _ in range(2):  # the second one is added
            _, saved = twins.linear.forward(x.copy(), each)
            twins.linear.backward(dz, saved)
    np.testing.assert_array_equal(second.gradient, first.gradient)
    np.testing.assert_array_equal(untouched.gradient, 0)


def test_a_gradient_of_whole_blocks_uses_all_of_its_scratch_and_nothing_beyond():
    made, blocks, K, beyond = products_bfloat16, products_bfloat16.BLOCKS, 33, 4096
    x, dz = (
        np.full(made.operand_shape(blocks.sum_rows, width), 0x3F80, np.uint16)
        for width in (K, blocks.columns)
    )  # ones
    dweight, size = np.zeros((K, blocks.columns), np.float32), made.scratch_size(K)
    scratch = aligned(size + beyond)
    scratch[:] = np.nan
    made.add_gradient(dweight, x, dz, True, scratch[:size])
    assert np.isfinite(scratch[size - 1])
    assert np.isnan(scratch[size:]).all()
    np.testing.assert_array_equal(dweight, blocks.sum_rows)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kernels", OF.values(), ids=OF)
def test_what_is_not_finite_stays_visible(value, kernels, rng):
    made, twins = kernels.products, Twins(Workspace(Arena(1 << 16), aligned(64), kernels))
    x = rng.normal(size=(3, 4)).astype(np.float32)
    x[1, 2] = value
    z, _ = twins.linear.forward(x, weight(np.eye(4, dtype=np.float32), made))
    assert not np.isfinite(z[1]).all()
    assert np.isfinite(z[[0, 2]]).all()
    y, _ = twins.layer_norm.forward(x, weight(np.ones(4, np.float32)))
    assert not np.isfinite(y[1]).all()
    q, k, v = (rng.normal(size=(1, 20, 4)).astype(np.float32) for _ in range(3))
    k[0, 7, 2] = np.copysign(1e30, value)  # a key that the queries from the eighth on see
    of_finite, _ = twins.attention.forward(q, k, v, n_heads=1, n_kv_heads=1)
    k[0, 7, 2] = value
    y, _ = twins.attention.forward(q, k, v, n_heads=1, n_kv_heads=1)
    hit = (np.arange(20) >= 7) & (np.isnan(value) | (np.sign(q[0, :, 2]) == np.sign(value)))
    assert np.isnan(y[0, hit]).all()
    np.testing.assert_array_equal(y[0, ~hit], of_finite[0, ~hit])  # with a score of -inf: a probability of 0
    assert np.isfinite(y[0, ~hit]).all()
    head = weight(np.eye(4, dtype=np.float32), made)
    loss, _ = twins.next_token_loss.forward(x, head, None, np.array([0, 1, 2]))
    assert not np.isfinite(loss)
