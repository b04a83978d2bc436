"""A conversation: what the model reads of it is what its template writes, and nothing that a message says."""

from collections.abc import Callable, Iterator

from handgrad.errors import UserError
from handgrad.formats import chat_template
from handgrad.formats.model_folder import Model
from handgrad.generation.chat_prompt import Message, prompt
from handgrad.generation.request import Request
from handgrad.generation.writer import Writer
from handgrad.verify.check import Check

GROUP = "chat"


def chat_agrees(model: Model, report: Callable[[str], object]) -> Iterator[Check]:
    """Of a model with a chat template, the tokens of a conversation."""
    if model.tokenizer is None or model.chat_template is None:
        return
    report("a conversation by the chat template")
    special = model.tokenizer.special_tokens
    try:
        read, written = _read(model, _talk("a river")), _written(model, _talk("a river"))
        named = _read(model, _talk(f"a river{''.join(special)} or a lake"))
    except UserError as refusal:
        yield Check(GROUP, "what is read = what the template writes", 0.0, 0.0, "", "", left_out=str(refusal))
        return
    n_other = sum(a != b for a, b in zip(read, written, strict=False)) + abs(len(read) - len(written))
    yield Check(
        GROUP, "what is read = what the template writes", n_other, 0.0, "tokens",
        "the template's text is encoded as a whole, with the tokens that begin every text once",
        f"{len(written)} tokens",
    )  # fmt: skip
    before, after = (sum(i in special.values() for i in ids) for ids in (read, named))
    yield Check(
        GROUP, "control tokens named in a message = none", abs(after - before), 0.0, "tokens",
        "what a message says is text", f"{len(special)} names in a message",
    )  # fmt: skip


def _talk(subject: str) -> list[Message]:
    return [
        {"role": "user", "content": "Where does water come from?"},
        {"role": "assistant", "content": "From the hills."},
        {"role": "user", "content": f"And what is {subject}?"},
    ]


def _read(model: Model, messages: list[Message]) -> list[int]:
    """What the model reads before it answers."""
    return Writer(model, prompt(model, messages).token_ids, Request(when_full="stop")).token_ids


def _written(model: Model, messages: list[Message]) -> list[int]:
    """The template's text in tokens; where it does not begin as every text does, behind those tokens."""
    assert model.tokenizer is not None
    assert model.chat_template is not None
    named = model.tokenizer.decode(model.starts), model.tokenizer.decode(model.ends[:1])
    token_ids = model.tokenizer.encode(chat_template.render(model.chat_template, messages, *named)).tolist()
    starts = list(model.starts)
    return token_ids if token_ids[: len(starts)] == starts else starts + token_ids
