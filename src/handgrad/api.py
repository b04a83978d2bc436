"""What a researcher asks first: a model from arrays, the logits of a batch, its loss, and every gradient."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from handgrad import convert, engines, tree
from handgrad import parameters as p
from handgrad.engines import OptimizerSettings, State, Training
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model, require_fitting
from handgrad.model.config import ModelConfig
from handgrad.model.init import require_shapes_of, require_weights_of, shapes
from handgrad.model.inputs import require_batch, require_token_ids
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.tokenizer import Tokenizer

FORMULAS = "reference"


def from_named(config: ModelConfig, arrays: Mapping[str, Any], tokenizer: Tokenizer | None = None) -> Model:
    """A model from its weights by dotted name, such as `blocks.0.attention.query.weight`.

    Arrays may be NumPy's, PyTorch's or nested lists; the widest of their types is the type of all. Raises
    `UserError` where names or shapes are not those of `config`, or the tokenizer has more or fewer tokens.
    """
    if not isinstance(arrays, Mapping):
        raise UserError(f"Weights by name are a dictionary; got {type(arrays).__name__}. Or make a Model.")
    require_fitting(tokenizer, config, "The tokenizer")
    found = {name: convert.numbers(array, name) for name, array in arrays.items()}
    require_shapes_of(config, {name: array.shape for name, array in found.items()})
    dtype = np.result_type(*found.values())
    names = iter([name for name, _ in tree.named_leaves(shapes(config))])
    weights = tree.map(lambda _: np.array(found[next(names)], dtype), shapes(config))
    return Model(config, weights, tokenizer)


def logits(
    config: ModelConfig,
    weights: p.Transformer,
    token_ids: Any,
    *,
    engine: str = FORMULAS,
    precision: str = "auto",
) -> np.ndarray:
    """The scores (B, T, V) of what comes next at every position of `token_ids` (B, T), without dropout.

    `engine` and its `precision` are those of `loss_and_gradients`.
    """
    engines.get(engine).require(precision)
    token_ids = convert.integers(token_ids, "token_ids")
    require_token_ids(config, token_ids)
    require_weights_of(config, weights)
    if engine == FORMULAS:
        return Transformer(config).forward(weights, token_ids)[0]
    return _training(config, weights, len(token_ids), engine, precision).logits(token_ids)


def loss_and_gradients(
    config: ModelConfig,
    weights: p.Transformer,
    token_ids: Any,
    targets: Any,
    *,
    rng: np.random.Generator | None = None,
    engine: str = FORMULAS,
    precision: str = "auto",
) -> tuple[float, dict[str, np.ndarray]]:
    """The mean loss, in nats a token, and its gradient with respect to every weight, by dotted name.

    `token_ids` and `targets` are integers (B, T): arrays, tensors or lists. Targets of -1 do not count. `rng`
    turns dropout on. The names are those of checkpoints: `blocks.0.attention.query.weight`.

    `engine` says who computes: "reference", the formulas in the precision of the weights; "cpu", the kernels
    that train, in float32 or, where `precision` and the machine have it, bfloat16 or int16; "xla", the
    formulas through JAX, also on a GPU, in float32 or bfloat16.

    Raises `UserError` for ids that the model cannot read, for weights of another model, and for a precision
    that the engine does not have.
    """
    engines.get(engine).require(precision)
    token_ids, targets = convert.integers(token_ids, "token_ids"), convert.integers(targets, "targets")
    require_batch(config, token_ids, targets)
    require_weights_of(config, weights)
    if engine == FORMULAS:
        model = LanguageModel(Transformer(config))
        loss, gradients = model.loss_and_gradients(1.0, weights, token_ids, targets, rng=rng)
    else:
        training = _training(config, weights, len(token_ids), engine, precision)
        loss, gradients = training.loss_and_gradients(token_ids, targets, rng)
    return float(loss), dict(tree.named_leaves(gradients))


def _training(
    config: ModelConfig, weights: p.Transformer, batch_size: int, engine: str, precision: str
) -> Training:
    return engines.training(
        config, State(weights), OptimizerSettings(), name=engine, precision=precision, batch_size=batch_size
    )
