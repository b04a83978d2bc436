"""What goes wrong with a conversation on its way to the model."""

from collections.abc import Iterator
from typing import Any

from handgrad.generation import chat_prompt
from handgrad.generation.chat_prompt import Prompt
from handgrad.verify import chat as verified
from injected import Change, Fault, replaced


def faults(model: str) -> Iterator[Fault]:
    """Those of a model with a chat template that writes the first token itself."""
    yield Fault(
        model, "chat: the first token stands twice", _prompt(lambda model, ids: [*model.starts, *ids])
    )
    yield Fault(model, "chat: a token at the beginning is lost", _prompt(lambda model, ids: ids[1:]))
    yield Fault(model, "chat: the answer is not begun", _prompt(lambda model, ids: ids[:-1]))
    last = replaced(verified, "prompt", lambda right: lambda model, messages: right(model, messages[-1:]))
    yield Fault(model, "chat: only the last message is read", last)
    named = replaced(chat_prompt, "_broken", lambda right: lambda tokenizer, text, mark: text)
    yield Fault(model, "chat: a message ends itself", named)


def _prompt(change: Change) -> Any:
    """What is read of a conversation, changed."""
    return replaced(
        verified,
        "prompt",
        lambda right: lambda model, said: Prompt(change(model, right(model, said).token_ids)),
    )
