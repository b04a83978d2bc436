"""What callers hand over as NumPy arrays: lists, and arrays of other libraries, none of which is imported."""

from typing import Any

import numpy as np

from handgrad.errors import UserError


def integers(value: Any, name: str) -> np.ndarray:
    """Whole numbers as an array of int64; `UserError` where they are something else."""
    array = _array(value, name)
    if array.dtype.kind not in "iu" and array.size:
        raise UserError(f"{name} must be whole numbers; got {_described(array)}.")
    if array.dtype == np.uint64 and array.max(initial=0) > np.iinfo(np.int64).max:
        raise UserError(f"{name} must be below 2^63; got {array.max()}.")
    return array.astype(np.int64, copy=False)


def numbers(value: Any, name: str) -> np.ndarray:
    """Numbers as an array of float32 or float64; `UserError` where they are something else."""
    array = _array(value, name)
    if array.dtype.kind == "f" and array.dtype.itemsize in (4, 8):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    narrow = (array.dtype.kind == "f" and array.dtype.itemsize < 4) or array.dtype.name == "bfloat16"
    if not narrow and array.dtype.kind not in "iu":
        raise UserError(f"{name} must be real numbers; got {_described(array)}. Make it float32 first.")
    return array.astype(np.float32 if narrow else np.float64)


def _array(value: Any, name: str) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor of PyTorch: followed by autograd, or on another device
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value  # NumPy has no such type
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(
            f"{name} must be numbers, in rows of one length; NumPy cannot read this ({error}). Make a NumPy "
            f"array of it first."
        ) from error


def _described(array: np.ndarray) -> str:
    return "objects of Python" if array.dtype.kind == "O" else f"{array.dtype.name}"
