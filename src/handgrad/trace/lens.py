r"""Reading the residual stream, and its gradients, in the vocabulary.

- The logit lens puts the stream, wherever it stands, through the final norm and the head, as if the rest of
  the model did not exist (nostalgebraist, "interpreting GPT: the logit lens", 2020).
- The shares of a logit: with the final norm's factor left as it is, the logit is linear in the stream's end.
  So what each part wrote has a share in it, and the shares add up to the logit (direct logit attribution).
- Gradients in words: descent moves a state $x$ of the stream along $-dx$. Read by the head, that raises some
  tokens and lowers others (after Katz et al., "Backward lens", 2024, arXiv:2402.12865).
"""

from typing import NamedTuple

import numpy as np

from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.model.block import Block
from handgrad.model.transformer import Transformer
from handgrad.shapes import Float, Int
from handgrad.trace import parts, sites
from handgrad.trace import text as texts
from handgrad.trace.prediction import Trace


class Words(NamedTuple):
    """What a step against a gradient does to the tokens, the strongest first."""

    raised: list[str]
    lowered: list[str]


def logit_lens(trace: Trace) -> dict[str, Float[np.ndarray, "T V"]]:
    """The logits that each state of the stream would give, by its name; the last one's are the model's.

    `UserError` where the stream was not kept.
    """
    return {name: read(trace.model, trace.value(name)) for name in sites.stream(trace.model.config)}


def read(model: Model, stream: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T V"]:
    """The logits that a state of the stream would give, through the final norm and the head."""
    x = stream[None]
    if model.weights.norm is not None:
        x, _ = Block(model.config).norm(x, model.weights.norm)
    return Transformer(model.config).head(x, model.weights)[0][0]


def shares(trace: Trace, target: object, rival: object = None) -> dict[str, float]:
    """What each part of the model wrote into the logit of `target` after the text, by name.

    They add up to the logit; with a `rival`, to the difference of both. Raises `UserError` for what is no
    token, and where norms stand after the sums.
    """
    model = trace.model
    direction = _of_token(model, texts.token(model, target, "target"))
    if rival is not None:
        direction = direction - _of_token(model, texts.token(model, rival, "rival"))
    names, written = parts.of(trace, [-1])
    stream, norm = written.sum(axis=0), model.weights.norm
    assert norm is not None  # there is one where norms stand before the parts
    shown = parts.normalized(written, stream, norm, model.config.norm_eps)
    found = dict(zip(names, (shown[:, 0] @ direction).tolist(), strict=True))
    constant = float(trace.value("logits")[-1] @ _chosen(model, target, rival)) - sum(found.values())
    has_constant = getattr(norm, "beta", None) is not None or (
        model.weights.head is not None and model.weights.head.bias is not None
    )
    return found | ({"norm and head biases": constant} if has_constant else {})


def in_words(trace: Trace, site: str, n: int = 5, positions: slice = slice(None)) -> list[Words]:
    """The gradient at a state of the stream, or of what is written into it, in words, position by position.

    `UserError` where the site is not as wide as the stream.
    """
    gradient, model = trace.gradient(site), trace.model
    if gradient.shape[-1] != model.config.d_model or gradient.ndim != 2:
        raise UserError(f"Words are read from the stream, (T, D); {site} has the shape {gradient.shape}.")
    scale = 1.0 if model.weights.norm is None else model.weights.norm.gamma
    moves = -(gradient[positions] * scale) @ _head(model)
    return [
        Words(
            [texts.word(model, token_id) for token_id in raised],
            [texts.word(model, token_id) for token_id in lowered],
        )
        for raised, lowered in zip(largest(moves, n), largest(-moves, n), strict=True)
    ]


def largest(rows: Float[np.ndarray, "N V"], n: int) -> Int[np.ndarray, "N n"]:
    """Where the `n` largest numbers of each row stand, the largest first; all where there are fewer."""
    n = min(n, rows.shape[-1])
    found = np.argpartition(-rows, n - 1, axis=-1)[:, :n]
    order = np.argsort(-np.take_along_axis(rows, found, axis=-1), axis=-1, kind="stable")
    return np.take_along_axis(found, order, axis=-1)


def _head(model: Model) -> Float[np.ndarray, "D V"]:
    return model.weights.embedding.T if model.weights.head is None else model.weights.head.weight


def _of_token(model: Model, token_id: int) -> Float[np.ndarray, " D"]:
    return _head(model)[:, token_id]


def _chosen(model: Model, target: object, rival: object) -> Float[np.ndarray, " V"]:
    chosen = np.zeros(model.config.vocab_size, model.weights.embedding.dtype)
    chosen[texts.token(model, target, "target")] = 1.0
    if rival is not None:
        chosen[texts.token(model, rival, "rival")] -= 1.0
    return chosen
