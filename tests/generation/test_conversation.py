"""A conversation: what the model reads of it, what is kept, what is forgotten."""

import numpy as np
import pytest

from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.generation import conversation
from handgrad.generation.batch import complete
from handgrad.generation.chat_prompt import PLAIN_STOPS
from handgrad.generation.conversation import Conversation
from handgrad.generation.request import Request
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.tokenizer import ByteTokenizer

CONFIG = ModelConfig(vocab_size=256, context_length=128, n_layers=1, n_heads=2, d_model=16)
REQUEST = Request.of(max_tokens=6, seed=3)


@pytest.fixture(scope="module")
def model():
    return Model(CONFIG, init(CONFIG, 1), ByteTokenizer())


@pytest.fixture
def talk(model):
    return Conversation(model, REQUEST, engine="reference")


def alone(model, prompt, seed):
    """What the model writes after `prompt`."""
    request = Request.of(max_tokens=6, seed=seed, stop=PLAIN_STOPS)
    ((_, done),) = complete(model, [prompt], request)
    return done.text


def test_every_answer_is_what_follows_the_whole_dialogue(model, talk):
    first = "".join(talk.ask("Hi"))
    assert first == alone(model, "User: Hi\nAssistant:", 3).lstrip()
    said = talk.messages[-1]["content"]
    second = "".join(talk.ask("Bye"))
    assert second == alone(model, f"User: Hi\nAssistant: {said}\nUser: Bye\nAssistant:", 4).lstrip()
    assert [message["role"] for message in talk.messages] == ["user", "assistant"] * 2


def test_a_turn_reads_only_what_is_new(talk, monkeypatch):
    "".join(talk.ask("Hi"))
    before = int(talk._decoding.lengths[0])
    n_read, read = [], talk._decoding.read
    monkeypatch.setattr(talk._decoding, "read", lambda pieces: n_read.append(len(pieces[0])) or read(pieces))
    "".join(talk.ask("Bye"))
    assert sum(n_read) <= talk._decoding.lengths[0] - len("User: Hi\nAssistant:")
    assert before > len("User: Hi\nAssistant:")
    assert n_read[1:] == [1] * 5


def test_another_answer_takes_the_place_of_the_last(model, talk):
    first = "".join(talk.ask("Hi"))
    second = "".join(talk.retry())
    assert second == alone(model, "User: Hi\nAssistant:", 4).lstrip() != first
    assert talk.messages == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": second.rstrip()},
    ]


def test_what_is_broken_off_is_kept_and_the_next_answer_is_right(model, talk):
    answer = talk.ask("Hi")
    begun = next(answer) + next(answer)
    answer.close()
    assert talk.finished is None
    assert talk.messages[-1] == {"role": "assistant", "content": begun.rstrip()}
    following = f"User: Hi\nAssistant: {begun.rstrip()}\nUser: Bye\nAssistant:"
    assert "".join(talk.ask("Bye")) == alone(model, following, 4).lstrip()


def test_a_long_prompt_can_be_broken_off_too(talk, monkeypatch):
    monkeypatch.setattr(conversation, "PART", 8)
    pieces = list(talk.ask("Hi"))  # 19 tokens: two parts and a rest
    assert pieces[:2] == ["", ""]
    assert len(pieces) == 2 + 6


def test_the_oldest_turns_are_forgotten_where_there_is_no_room(talk):
    talk.system = "Rhyme."
    for _ in range(5):
        "".join(talk.ask("x" * 20))
    assert talk.n_forgotten in (2, 4, 6)
    assert len(talk.messages) == 10
    with pytest.raises(UserError, match="this question alone takes"):
        talk.ask("x" * 200)
    assert len(talk.messages) == 10  # what was refused was not said
    talk.restart()
    assert (talk.messages, talk.n_forgotten, talk.system) == ([], 0, "Rhyme.")


def test_without_a_question_there_is_no_other_answer(talk):
    with pytest.raises(UserError, match="no question yet"):
        talk.retry()


def test_a_model_without_a_tokenizer_cannot_talk(model):
    with pytest.raises(UserError, match="needs a tokenizer"):
        Conversation(Model(CONFIG, model.weights), REQUEST, engine="reference")


def test_a_prefix_never_holds_the_last_token():
    from handgrad.generation.prefix import n_shared

    assert n_shared([1, 2, 3], np.array([1, 2, 3])) == 2
    assert n_shared([1, 2, 3], np.array([1, 5, 3])) == 1
    assert n_shared([], np.array([1])) == 0
