"""float16 in the bytes of a file."""

import numpy as np

from handgrad.errors import UserError

LARGEST = 65_504


def read(data: np.ndarray) -> np.ndarray:
    """float16 in bytes (N, 2 k) as float32 (N, k)."""
    return np.ascontiguousarray(data).view("<f2").astype(np.float32)


def write(numbers: np.ndarray) -> np.ndarray:
    """Numbers (N, k) as float16 in bytes (N, 2 k); `UserError` where they are too large for it."""
    with np.errstate(over="ignore"):
        halves = np.ascontiguousarray(numbers).astype("<f2")
    require(halves)
    return halves.view(np.uint8)


def require(numbers: np.ndarray) -> None:
    """Raise `UserError` where numbers are not finite, or too large for float16."""
    if not np.abs(numbers).max(initial=0) <= LARGEST:
        raise UserError(
            "float16, which holds the scales of quantized weights, ends at 65,504; these weights are larger. "
            "Take F32 or BF16."
        )


def rounded(numbers: np.ndarray) -> np.ndarray:
    """Numbers as float16 has them, in float32."""
    return numbers.astype(np.float16).astype(np.float32)
