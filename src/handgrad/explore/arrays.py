"""Arrays on their way to the page: only the part that is on screen, as its numbers are.

4 bytes   N, little-endian
N bytes   JSON: shape, count, and what is said of them; blanks fill it up to a multiple of 4
the rest  float32, little-endian, row by row; for "both" the value, then the gradient
"""

import json
from typing import Any, Literal

import numpy as np

from handgrad.errors import UserError
from handgrad.trace import Trace

One = Literal["value", "gradient"]
What = Literal[One, "both"]
Kind = Literal["probs", "scores"]
MOST = 1 << 18
"""Numbers of an answer."""


def packed(trace: Trace, site: str, what: What, index: str) -> bytes:
    """A part of what stands at a site; `UserError` for a part there is not, or one that is too large."""
    found = [] if what == "gradient" else [trace.value(site)]
    found += [] if what == "value" else [trace.gradient(site)]
    parts = [np.asarray(array[_index(index, array.shape)], np.dtype("<f4")) for array in found]
    if sum(part.size for part in parts) > MOST:
        raise UserError(
            f"An answer has at most {MOST:,} numbers; {site}[{index}] has {parts[0].size:,}. Ask for a part."
        )
    about = [statistics(part) for part in parts]
    return sent(parts, site=site, what=what, index=index, **about[0], of=about)


def small_heads(trace: Trace, kind: Kind, what: One, last: int, side: int) -> bytes:
    """The attention of all heads among the `last` tokens, (L, H, side, side): see `strongest`.

    The header says what all heads give, on average, from the last token to each of them.
    """
    find = trace.value if what == "value" else trace.gradient
    maps, looks = [], []
    for layer in range(trace.model.config.n_layers):
        numbers = find(f"blocks.{layer}.attention.{kind}")[:, -last:, -last:]
        maps.append(strongest(np.tril(numbers), side))
        looks.append(numbers[:, -1].mean(axis=0, dtype=np.float64))
    if sum(each.size for each in maps) > MOST:
        raise UserError(f"An answer has at most {MOST:,} numbers. Ask for smaller pictures.")
    return sent([np.stack(maps).astype("<f4")], what=what, mean=np.mean(looks, axis=0).tolist())


def strongest(maps: np.ndarray, side: int) -> np.ndarray:
    """Maps of at most `side` cells along each of the last two axes: each is the number farthest from zero."""
    for axis in (-1, -2):
        n = maps.shape[axis]
        if n > side:
            starts = np.arange(side) * n // side
            most, least = (each.reduceat(maps, starts, axis) for each in (np.maximum, np.minimum))
            maps = np.where(most >= -least, most, least)
    return maps


def sent(parts: list[np.ndarray], **about: Any) -> bytes:
    """Arrays of one shape, and what is said of them."""
    header = {"shape": parts[0].shape, "count": len(parts), **about}
    text = json.dumps(header).encode()
    text += b" " * (-(4 + len(text)) % 4)
    return len(text).to_bytes(4, "little") + text + b"".join(part.tobytes() for part in parts)


def statistics(values: np.ndarray) -> dict[str, float]:
    """The smallest number, the largest, the mean, and the root mean square."""
    if not values.size:
        return dict.fromkeys(("min", "max", "mean", "rms"), 0.0)
    return {
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": float(np.mean(values, dtype=np.float64)),
        "rms": sizes(values[None])[0],
    }


def sizes(values: np.ndarray) -> list[float]:
    """The root mean square of each of the first axis."""
    rows = values.reshape(len(values), -1)
    squares = [np.einsum("i,i->", row, row, dtype=np.float64) for row in rows]  # no array of squares
    return [float(np.sqrt(square / rows.shape[1])) for square in squares]


def _index(text: str, shape: tuple[int, ...]) -> tuple[int | slice, ...]:
    parts = [part.strip() for part in text.split(",")] if text else []
    if len(parts) > len(shape):
        raise UserError(f"There are {len(shape)} axes here; the index {text[:100]!r} has {len(parts)}.")
    try:
        return tuple(_along(part, size) for part, size in zip(parts, shape, strict=False))
    except ValueError as error:
        raise UserError(
            f'An index is a number or a range for each axis, as in "2,:,0:64"; got {text[:100]!r}.'
        ) from error


def _along(part: str, size: int) -> int | slice:
    if ":" in part:
        first, last = part.split(":")
        return slice(int(first) if first else None, int(last) if last else None)
    number = int(part)
    if not -size <= number < size:
        raise UserError(f"Along this axis there are {size}, from 0; got {number}.")
    return number


def plain(values: Any) -> Any:
    """Numbers as JSON has them: what is none is null."""
    if isinstance(values, np.ndarray):
        return plain(values.tolist())
    if isinstance(values, list):
        return [plain(value) for value in values]
    return None if isinstance(values, float) and not np.isfinite(values) else values
