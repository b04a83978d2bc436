"""What goes wrong with a KV cache, with positions and with the mask."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from handgrad import ops
from handgrad.engines import reference
from handgrad.ops import attention
from injected import Change, Fault, replaced, setting

POSITION_OPS = {
    "rope": ops.rope,
    "learned": ops.learned_position,
    "sinusoidal": ops.sinusoidal_position,
}


def faults(model: str, position: str, n_layers: int) -> Iterator[Fault]:
    """Those of a model with this kind of positions."""
    op = POSITION_OPS[position]
    anew = setting(op, "forward", offset=lambda at: 0)
    yield Fault(model, "positions begin at 0 in every piece", anew)
    later = setting(op, "forward", offset=lambda at: max(0, at - 1))
    yield Fault(model, "positions after the cache are one too small", later)
    for layer in range(n_layers):
        for name, change in CACHES.items():
            yield Fault(model, f"{name}, layer {layer}", _cache(layer, change))
    yield Fault(model, "the cache of another layer", _layers_swapped)
    yield Fault(model, "the cache of another text", _texts_swapped)
    yield Fault(model, "a cut keeps the end", _cut(lambda x, n: x[:, :, -n:]))
    yield Fault(model, "a cut keeps what is one position later", _cut(lambda x, n: x[:, :, 1 : n + 1]))
    for name, mask in MASKS.items():
        yield Fault(model, name, replaced(attention, "_no_later_key", lambda right, mask=mask: mask))


CACHES: dict[str, Change] = {
    "the cache is one position off": lambda k, v: (np.roll(k, 1, axis=2), np.roll(v, 1, axis=2)),
    "the cached values are one position off": lambda k, v: (k, np.roll(v, 1, axis=2)),
    "cached keys are 1 % too large": lambda k, v: (1.01 * k, v),
}

MASKS: dict[str, Change] = {
    "a token sees the next one": lambda q, k: _seen(q, k, ahead=1),
    "a token does not see itself": lambda q, k: _seen(q, k, ahead=-1),
    "tokens after the cache are masked as the first ones": lambda q, k: _seen(q, k, first=0),
}


def _seen(q: np.ndarray, k: np.ndarray, ahead: int = 0, first: int | None = None) -> np.ndarray:
    T, S = q.shape[2], k.shape[2]
    first = S - T if first is None else first
    return np.arange(S)[None, :] <= np.arange(first, first + T)[:, None] + ahead


def _after_reading(change: Callable[[reference.Decoding, int], None]) -> Callable[[], Any]:
    def make(right: Change) -> Change:
        def wrong(self: reference.Decoding, piece: np.ndarray, text: int, every: bool) -> np.ndarray:
            logits = right(self, piece, text, every)
            change(self, text)
            return logits

        return wrong

    return replaced(reference.Decoding, "_read", make)


def _cache(layer: int, change: Change) -> Callable[[], Any]:
    def apply(decoding: reference.Decoding, text: int) -> None:
        decoding.past[text][layer] = change(*decoding.past[text][layer])

    return _after_reading(apply)


def _layers_swapped() -> Any:
    def apply(decoding: reference.Decoding, text: int) -> None:
        decoding.past[text] = decoding.past[text][::-1]

    return _after_reading(apply)()


def _texts_swapped() -> Any:
    def apply(decoding: reference.Decoding, text: int) -> None:
        others = [i for i, past in enumerate(decoding.past) if past and i != text]
        if others and decoding.past[others[0]][0][0].shape == decoding.past[text][0][0].shape:
            decoding.past[text] = decoding.past[others[0]]

    return _after_reading(apply)()


def _cut(keep: Change) -> Callable[[], Any]:
    def make(right: Change) -> Change:
        def wrong(self: reference.Decoding, text: int, length: int) -> None:
            past = self.past[text]
            self.past[text] = (
                [(keep(k, length), keep(v, length)) for k, v in past] if past and length else None
            )
            self.lengths[text] = length

        return wrong

    return replaced(reference.Decoding, "cut", make)
