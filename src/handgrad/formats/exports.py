"""A model in another program's format: a Hugging Face folder, or a GGUF file."""

from pathlib import Path

from handgrad.errors import require_known
from handgrad.formats import gguf_save, hugging_face
from handgrad.formats.model_folder import Model

TARGETS = ("hf", "gguf")


def export(model: Model, path: str | Path, *, to: str, type: str | None = None) -> Path:
    """Write `model` to the new `path`: `to` "hf", a folder for `transformers`; "gguf", a file for llama.cpp.

    `type` is that of the weights: F32, F16 or BF16, in a GGUF also Q8_0, Q4_0, Q4_K or Q6_K. By default they
    stay as they are: F32, or the blocks that came in a GGUF. Returns the path.

    Raises `UserError` where the format has no place for such a model: it names the settings in the way.
    """
    require_known("format", to, TARGETS)
    if to == "hf":
        return hugging_face.save(model, path, type or "F32")
    return gguf_save.save(model, path, type)
