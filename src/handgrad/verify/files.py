"""Export and import: what is read again is what was written, bit for bit."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from handgrad import tree
from handgrad.errors import UserError
from handgrad.formats import gguf, gguf_save, hugging_face, model_folder
from handgrad.formats.model_folder import Model
from handgrad.parameters import Blocks
from handgrad.tokenizer import Tokenizer
from handgrad.verify.check import Check
from handgrad.verify.rounding import apart
from handgrad.verify.subject import Subject, in_float64, logits
from handgrad.verify.texts import SENTENCES
from handgrad.verify.writing import UNIT

GROUP = "files"
REASON = "what is written is written as it is"
TEXT = ("starts", "ends", "chat_template")
"""What a model knows about texts."""


class Format(NamedTuple):
    """A way out, and in again."""

    name: str
    save: Callable[[Model, Path], object]
    load: Callable[[Path], Model]
    keeps_blocks: bool = False
    """Whether the blocks of a quantized model come back."""


FORMATS = (
    Format("handgrad folder", model_folder.save, model_folder.load, keeps_blocks=True),
    Format("Hugging Face folder", hugging_face.save, hugging_face.load),
    Format("GGUF, F32", lambda model, path: gguf_save.save(model, path, "F32"), gguf.load),
)


def files_agree(subject: Subject, report: Callable[[str], object]) -> Iterator[Check]:
    """The model written in every format that has a place for it, and read again."""
    model = dataclasses.replace(subject.model, weights=tree.map(np.float32, subject.model.weights))
    for form in FORMATS:
        report(f"export: {form.name}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            try:
                form.save(model, path)
            except UserError as refusal:
                yield Check(GROUP, form.name, 0.0, 0.0, "", "", left_out=str(refusal))
                continue
            try:
                again = form.load(path)
            except UserError as refusal:
                lost = subject.n_weights
                yield Check(GROUP, f"{form.name}: weights", lost, 0.0, "weights", REASON, str(refusal))
                continue
            yield from _read_again(subject, model, again, form.name)
            if form.keeps_blocks and model.blocks:
                n_other = _n_other_blocks(model.blocks, again.blocks or {})
                yield Check(GROUP, f"{form.name}: blocks", n_other, 0.0, "matrices", REASON)


def _read_again(subject: Subject, model: Model, again: Model, name: str) -> Iterator[Check]:
    weights, found = (dict(tree.named_leaves(m.weights)) for m in (model, again))
    differing = {key: _n_different(array, found.get(key)) for key, array in weights.items()}
    wrong = [key for key, n in differing.items() if n]
    facts = f"in {', '.join(wrong[:4])}" if wrong else f"{subject.n_weights:,} weights"
    yield Check(GROUP, f"{name}: weights", sum(differing.values()), 0.0, "weights", REASON, facts)
    if not wrong:
        yield _logits_agree(subject, again, name)
    same = sum(getattr(model, field) == getattr(again, field) for field in TEXT)
    yield Check(GROUP, f"{name}: starts, ends, template", len(TEXT) - same, 0.0, "fields", REASON)
    if model.tokenizer is not None:
        n_other = _n_other_tokens(model.tokenizer, again.tokenizer)
        yield Check(GROUP, f"{name}: tokens of a text", n_other, 0.0, "tokens", REASON)


def _logits_agree(subject: Subject, again: Model, name: str) -> Check:
    """Same weights with same settings need not be computed with once more."""
    if again.config == subject.config:
        return Check(GROUP, f"{name}: logits", 0.0, 0.0, UNIT, "the same formulas", "the same settings")
    said = logits(again.config, tree.map(in_float64, again.weights), subject.texts.token_ids)
    facts = "settings said otherwise"
    return Check(GROUP, f"{name}: logits", apart(said, subject.logits), 0.0, UNIT, "the same formulas", facts)


def _n_different(array: np.ndarray, again: np.ndarray | None) -> int:
    if again is None or again.shape != array.shape:
        return array.size
    return int(np.sum(array.view(np.uint32) != np.asarray(again, np.float32).view(np.uint32)))


def _n_other_blocks(before: Mapping[str, Blocks], after: Mapping[str, Blocks]) -> int:
    """How many matrices have other blocks, or none."""
    same = [
        name in after and after[name].kind == kind and np.array_equal(after[name].data, data)
        for name, (kind, data) in before.items()
    ]
    return len(same) - sum(same) + len(after.keys() - before.keys())


def _n_other_tokens(before: Tokenizer, after: Tokenizer | None) -> int:
    """How many tokens of a text are others, or are missing."""
    if after is None:
        return before.vocab_size
    try:
        token_ids = before.encode(SENTENCES)
    except UserError:  # not its language: its own tokens then
        token_ids = np.arange(before.vocab_size)
    text = before.decode(token_ids)
    old, new = list(before.encode(text)), list(after.encode(text))
    return sum(a != b for a, b in zip(old, new, strict=False)) + abs(len(old) - len(new))
