"""Arrays on their way to the page: only the part that is on screen, as its numbers are.

4 bytes   N, little-endian
N bytes   JSON: shape, site, what, index, min, max, rms, count; blanks fill it up to a multiple of 4
the rest  float32, little-endian, row by row; for "both" the value, then the gradient
"""

import json
from typing import Any, Literal

import numpy as np

from handgrad.errors import UserError
from handgrad.trace import Trace

What = Literal["value", "gradient", "both"]
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
    header = {
        "shape": parts[0].shape, "site": site, "what": what, "index": index, "count": len(parts),
        **about[0], "of": about,
    }  # fmt: skip
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
