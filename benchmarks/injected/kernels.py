"""What goes wrong in an engine: it computes slightly another model, or forgets whose cache it reads."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

import numpy as np

from handgrad import parameters as p
from handgrad.engines import State, cpu
from handgrad.engines.engine import Decoding
from handgrad.model.config import ModelConfig
from injected import Change, Fault, named, result

ATTENTION = "blocks.{}.attention."


def faults(model: str, config: ModelConfig) -> Iterator[Fault]:
    """Those of the cpu engine, in training and in writing."""
    for layer in range(config.n_layers):
        for name, changes in _weights(config, layer):
            yield Fault(model, f"kernels: {name}, layer {layer}", _other(weights=changes))
    for name, change in _configs(config):
        yield Fault(model, f"kernels: {name}", _other(config=change))
    for name, method, change in RESULTS:
        yield Fault(model, f"kernels: {name}", result(cpu.Training, method, change))
    for name, kind in PROXIES.items():
        yield Fault(model, f"kernels: {name}", lambda kind=kind: _writing_through(kind))


def slight(model: str, names: list[str]) -> Iterator[Fault]:
    """The kernels' gradient of one array 1 % too large."""
    for name in names:

        def change(found: tuple[float, Any], name: str = name) -> tuple[float, Any]:
            return found[0], named(found[1], {name: lambda g: np.float32(1.01) * g})

        yield Fault(
            model, f"kernels: gradient of {name} 1 % off", result(cpu.Training, "loss_and_gradients", change)
        )


RESULTS: tuple[tuple[str, str, Change], ...] = (
    ("logits 1 % too large", "logits", lambda logits: np.float32(1.01) * logits),
    ("logits of the token before", "logits", lambda logits: np.roll(logits, 1, axis=1)),
    ("loss 1 % too large", "loss", lambda loss: 1.01 * loss),
    ("loss of the batch, not of a token", "loss", lambda loss: 2 * loss),
)


def _weights(config: ModelConfig, layer: int) -> Iterator[tuple[str, dict[str, Change]]]:
    """Weights read in another order, or not at all."""
    attention, K = ATTENTION.format(layer), config.head_width
    yield "queries transposed", {attention + "query.weight": _transposed}
    halves = [*range(0, K, 2), *range(1, K, 2)]
    if config.position == "rope":
        yield (
            "rotary components in another order",
            {
                attention + "query.weight": lambda w: _within_heads(w, halves),
                attention + "key.weight": lambda w: _within_heads(w, halves),
            },
        )
    if config.kv_heads > 1:
        yield (
            "key-value heads in another order",
            {
                attention + "key.weight": lambda w: np.roll(w, K, axis=1),
                attention + "value.weight": lambda w: np.roll(w, K, axis=1),
            },
        )
    yield "a norm's scale forgotten", {f"blocks.{layer}.norm1.gamma": np.ones_like}
    yield "one matrix 1 % too large", {f"blocks.{layer}.feed_forward.down.weight": lambda w: 1.01 * w}
    yield "one weight left out", {f"blocks.{layer}.feed_forward.up.weight": _without_the_largest}


def _configs(config: ModelConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """Settings of another model."""
    yield "another epsilon", {"norm_eps": 10 * config.norm_eps}
    if config.position == "rope":
        yield "another rotary base", {"rope_base": 1.1 * config.rope_base}
    other = {"gelu": "gelu_tanh", "gelu_tanh": "gelu", "silu": "gelu", "relu": "leaky_relu"}
    yield "another activation", {"activation": other[config.activation]}
    yield "embeddings scaled otherwise", {"scale_embedding": not config.scale_embedding}


class Proxy:
    """A decoding that passes everything on, and does one thing wrong."""

    def __init__(self, right: Decoding):
        self.right, self.config = right, right.config

    @property
    def lengths(self) -> np.ndarray:
        return self.right.lengths

    def read(
        self, pieces: Sequence[np.ndarray], texts: Sequence[int] | None = None, *, every: bool = False
    ) -> np.ndarray:
        return self.right.read(pieces, texts, every=every)

    def cut(self, text: int, length: int) -> None:
        self.right.cut(text, length)


class OneShort(Proxy):
    """What comes after the cache takes the place of its last token."""

    def __init__(self, right: Decoding):
        super().__init__(right)
        self._lengths = np.array(right.lengths)

    @property
    def lengths(self) -> np.ndarray:
        return self._lengths

    def read(self, pieces: Any, texts: Any = None, *, every: bool = False) -> np.ndarray:
        for piece, text in zip(pieces, range(len(pieces)) if texts is None else texts, strict=True):
            self._lengths[text] += len(piece)
            if self.right.lengths[text]:
                self.right.cut(text, int(self.right.lengths[text]) - 1)
        return super().read(pieces, texts, every=every)

    def cut(self, text: int, length: int) -> None:
        self._lengths[text] = length
        super().cut(text, min(length, int(self.right.lengths[text])))


class Stale(Proxy):
    """After a cut, the last token kept is one of those that were cut."""

    def cut(self, text: int, length: int) -> None:
        super().cut(text, max(0, length - 1))
        if length:
            super().read([np.zeros(1, np.int64)], [text])


class Mixed(Proxy):
    """Of texts read side by side, the logits come back in the order of the texts' numbers."""

    def read(self, pieces: Any, texts: Any = None, *, every: bool = False) -> np.ndarray:
        logits = super().read(pieces, texts, every=every)
        if texts is None or len(texts) == 1:
            return logits
        ends = np.cumsum([len(piece) if every else 1 for piece in pieces])[:-1]
        return np.concatenate([np.split(logits, ends)[i] for i in np.argsort(texts)])


class SlightlyLarge(Proxy):
    """Logits 1 % too large."""

    def read(self, pieces: Any, texts: Any = None, *, every: bool = False) -> np.ndarray:
        return np.float32(1.01) * super().read(pieces, texts, every=every)


class SingleOtherwise(Proxy):
    """A token read alone goes another way than in a batch: one bit differs."""

    def read(self, pieces: Any, texts: Any = None, *, every: bool = False) -> np.ndarray:
        logits = super().read(pieces, texts, every=every)
        return np.nextafter(logits, np.float32(np.inf)) if len(logits) == 1 else logits


PROXIES: dict[str, type[Proxy]] = {
    "the cache is one position short": OneShort,
    "a stale token after a cut": Stale,
    "texts side by side mixed up": Mixed,
    "what is written 1 % too large": SlightlyLarge,
    "one bit differs for a token alone": SingleOtherwise,
}


def _writing_through(kind: type[Proxy]) -> Any:
    return result(cpu, "decoding", kind)()


@contextlib.contextmanager
def _patched(training: Change, decoding: Change) -> Iterator[None]:
    with patch.object(cpu, "training", training), patch.object(cpu, "decoding", decoding):
        yield


def _other(weights: dict[str, Change] | None = None, config: dict[str, Any] | None = None) -> Any:
    """The engine is handed other weights, or another configuration."""
    right_training, right_decoding = cpu.training, cpu.decoding

    def wrong_weights(given: p.Transformer) -> p.Transformer:
        changes = {name: lambda w, f=f: np.float32(f(w)) for name, f in (weights or {}).items()}
        return named(given, changes)

    def training(given: ModelConfig, state: State, *args: Any, **kwargs: Any) -> Any:
        return right_training(
            given.replace(**config or {}), State(wrong_weights(state.weights)), *args, **kwargs
        )

    def decoding(given: ModelConfig, weights: p.Transformer, **kwargs: Any) -> Any:
        return right_decoding(given.replace(**config or {}), wrong_weights(weights), **kwargs)

    return lambda: _patched(training, decoding)


def _transposed(w: np.ndarray) -> np.ndarray:
    return w.T if w.shape[0] == w.shape[1] else w.reshape(w.shape[::-1]).T


def _within_heads(w: np.ndarray, order: list[int]) -> np.ndarray:
    """Each head's components in another order."""
    return w.reshape(len(w), -1, len(order))[:, :, order].reshape(w.shape)


def _without_the_largest(w: np.ndarray) -> np.ndarray:
    w = w.copy()
    w.flat[np.argmax(np.abs(w))] = 0.0
    return w
