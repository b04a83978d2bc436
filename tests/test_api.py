"""The public functions: models from arrays, logits, loss and gradients, from whatever people hand over."""

import subprocess
import sys

import numpy as np
import pytest

import handgrad
from handgrad import tree
from handgrad.errors import UserError
from handgrad.model.cases import small
from handgrad.model.config import PRESETS
from handgrad.tokenizer import ByteTokenizer

NANO = small(PRESETS["nano"])
IDS = [[1, 2, 3], [4, 5, 6]]
TARGETS = [[2, 3, -1], [5, 6, 0]]


def named(config, seed=1):
    return dict(tree.named_leaves(handgrad.init(config, seed)))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_model_is_made_of_its_weights_by_name(preset):
    config = small(PRESETS[preset])
    weights = handgrad.init(config, 1)
    backwards = dict(reversed(list(tree.named_leaves(weights))))
    model = handgrad.from_named(config, backwards)
    assert model.config == config
    assert type(model.weights) is handgrad.parameters.Transformer
    for (name, ours), (_, theirs) in zip(
        tree.named_leaves(model.weights), tree.named_leaves(weights), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
        assert ours.dtype == np.float32
        assert not np.shares_memory(ours, theirs)


def test_weights_may_be_lists_and_tensors():
    torch = pytest.importorskip("torch", reason="PyTorch is an oracle: install the extra [oracles]")
    arrays = named(NANO)
    tensors = {name: torch.nn.Parameter(torch.tensor(array)) for name, array in arrays.items()}
    halves = {name: torch.tensor(array, dtype=torch.bfloat16) for name, array in arrays.items()}
    lists = {name: array.tolist() for name, array in arrays.items()}
    for given, dtype in ((tensors, np.float32), (halves, np.float32), (lists, np.float64)):
        model = handgrad.from_named(NANO, given)
        for ours, theirs in zip(tree.leaves(model.weights), arrays.values(), strict=True):
            assert ours.dtype == dtype
            np.testing.assert_allclose(ours, theirs, rtol=1e-2)  # bfloat16 has three digits


def test_missing_and_extra_names_and_other_shapes_are_listed_in_one_sentence():
    arrays = named(NANO)
    del arrays["norm.gamma"], arrays["positions"]
    arrays["lm_head.weight"] = np.zeros((7, 8))
    arrays["embedding"] = np.zeros((8, 7))
    with pytest.raises(UserError) as refused:
        handgrad.from_named(NANO, arrays)
    sentence = str(refused.value)
    assert "they lack norm.gamma, positions" in sentence
    assert "the model has no lm_head.weight" in sentence
    assert "embedding, (8, 7) instead of (7, 8)" in sentence


def test_a_long_list_of_names_is_cut_short():
    with pytest.raises(UserError, match=r"and \d+ more") as refused:
        handgrad.from_named(NANO, {})
    assert len(str(refused.value)) < 600


def test_numbers_in_another_byte_order_are_the_same_numbers():
    arrays = named(NANO)
    for kind, dtype in ((">f4", np.float32), (">f8", np.float64), (">f2", np.float32)):
        model = handgrad.from_named(NANO, {name: array.astype(kind) for name, array in arrays.items()})
        for ours, theirs in zip(tree.leaves(model.weights), arrays.values(), strict=True):
            assert ours.dtype == dtype
            assert ours.dtype.isnative
            np.testing.assert_array_equal(ours, theirs.astype(kind))


@pytest.mark.parametrize("array", ["text", [[1], [2, 3]], [1j], [None], [True], object()])
def test_what_is_no_array_of_numbers_is_refused_by_name(array):
    with pytest.raises(UserError, match=r"norm\.gamma must be"):
        handgrad.from_named(NANO, named(NANO) | {"norm.gamma": array})


def test_a_tokenizer_of_another_size_is_refused():
    with pytest.raises(UserError, match="as many tokens as the model"):
        handgrad.from_named(NANO, named(NANO), ByteTokenizer())


def test_weights_by_name_are_a_dictionary():
    with pytest.raises(UserError, match="dictionary"):
        handgrad.from_named(NANO, list(named(NANO).items()))


@pytest.mark.parametrize("config", [NANO.replace(n_layers=1), NANO.replace(d_ff=8), NANO.replace(bias=True)])
def test_weights_of_another_model_are_refused(config):
    weights = handgrad.init(config)
    for function in (handgrad.logits, lambda *args: handgrad.loss_and_gradients(*args, TARGETS)):
        with pytest.raises(UserError, match="another model"):
            function(NANO, weights, IDS)


def test_token_ids_may_be_lists_and_tensors():
    torch = pytest.importorskip("torch", reason="PyTorch is an oracle: install the extra [oracles]")
    weights = handgrad.init(NANO, 1)
    expected = handgrad.loss_and_gradients(NANO, weights, np.array(IDS), np.array(TARGETS))[0]
    assert handgrad.loss_and_gradients(NANO, weights, IDS, TARGETS)[0] == expected
    loss, _ = handgrad.loss_and_gradients(NANO, weights, torch.tensor(IDS), torch.tensor(TARGETS))
    assert loss == expected
    assert handgrad.logits(NANO, weights, torch.tensor(IDS)).shape == (2, 3, NANO.vocab_size)


@pytest.mark.parametrize("ids", [[[0.5]], [["a"]], [1, 2], [[1], [2, 3]], [[7]], [[-1]], [[2**64]], None, []])
def test_token_ids_that_are_none_are_refused(ids):
    with pytest.raises(UserError, match=r"token_ids|Token ids"):
        handgrad.logits(NANO, handgrad.init(NANO), ids)


def test_the_cpu_engine_agrees_with_the_formulas():
    # float32, against the formulas in float64: a few hundred roundings of 6e-8
    weights = handgrad.init(NANO, 1)
    exact = tree.map(lambda leaf: leaf.astype(np.float64), weights)
    scores = handgrad.logits(NANO, weights, IDS, engine="cpu", precision="float32")
    np.testing.assert_allclose(scores, handgrad.logits(NANO, exact, IDS), atol=1e-5)
    loss, gradients = handgrad.loss_and_gradients(
        NANO, weights, IDS, TARGETS, engine="cpu", precision="float32"
    )
    expected, exact_gradients = handgrad.loss_and_gradients(NANO, exact, IDS, TARGETS)
    assert loss == pytest.approx(expected, abs=1e-5)
    assert gradients.keys() == exact_gradients.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, exact_gradients[name], atol=1e-5, err_msg=name)


def test_an_engine_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="choose one of cpu, reference"):
        handgrad.logits(NANO, handgrad.init(NANO), IDS, engine="gpu")


@pytest.mark.parametrize(
    ("precision", "words"), [("float8", "no precision 'float8'"), ("bfloat16", "Take --engine cpu")]
)
def test_a_precision_that_the_formulas_do_not_have_is_refused(precision, words):
    weights = handgrad.init(NANO)
    with pytest.raises(UserError, match=words):
        handgrad.logits(NANO, weights, IDS, precision=precision)
    with pytest.raises(UserError, match=words):
        handgrad.loss_and_gradients(NANO, weights, IDS, TARGETS, precision=precision)


def test_nothing_imports_torch():
    program = (
        "import sys, handgrad; c = handgrad.preset('nano'); w = handgrad.init(c);"
        "m = handgrad.from_named(c, dict(handgrad.tree.named_leaves(w)));"
        "handgrad.logits(c, m.weights, [[1, 2]]); assert not {'torch', 'jax', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
