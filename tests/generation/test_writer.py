"""A text in progress: what is decided, when it is over, and why."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.generation.request import Request
from handgrad.generation.stop import Held
from handgrad.generation.writer import Writer
from handgrad.model.config import ModelConfig
from handgrad.model.init import shapes
from handgrad.tokenizer import ByteTokenizer, CharacterTokenizer

LETTERS = CharacterTokenizer("\n abc")
CONFIG = ModelConfig(vocab_size=6, context_length=8, n_layers=1, n_heads=1, d_model=2)


def model(tokenizer=LETTERS, config=CONFIG, **known):
    return Model(config, shapes(config), tokenizer, **known)


def logits_of(token_id, n=CONFIG.vocab_size):
    z = np.zeros(n, np.float32)
    z[token_id] = 9.0
    return z


def write(writer, ids):
    """The pieces of a model that wants to write `ids`."""
    pieces = []
    for token_id in ids:
        if writer.finished:
            break
        pieces.append(writer.next(logits_of(token_id)))
    return pieces


def greedy(**settings):
    return Request.of(temperature=0.0, **settings)


def written(text, **settings):
    writer = Writer(model(), "a", greedy(**settings))
    pieces = write(writer, LETTERS.encode(text))
    assert [piece.finished for piece in pieces] == [None] * (len(pieces) - 1) + [writer.finished]
    return [piece.text for piece in pieces], writer.finished


def test_a_stop_string_ends_the_text_before_it_and_is_never_shown():
    assert written("b ab c", stop="ab") == (["b", " ", "", ""], "stop")
    assert written("b a c", stop=["ab", "x"]) == (["b", " ", "", "a ", "c"], None)
    assert written("aab", stop=["ab"]) == (["", "a", ""], "stop")
    assert written("ca", max_tokens=2, stop=["ab"]) == (["c", "a"], "length")


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.data())
def test_where_a_text_stops_does_not_depend_on_where_its_tokens_end(text, stops, data):
    def shown(pieces):
        held, said = Held(stops), ""
        for piece in pieces:
            decided, found = held.add(piece)
            said += decided
            if found:
                return said
        return said + held.rest()

    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=5)) | {0, len(text)})
    pieces = [text[a:b] for a, b in itertools.pairwise(cuts)]
    ends = [n for n in range(len(text) + 1) if any(text[:n].endswith(stop) for stop in stops)]
    assert shown(pieces) == shown(text)
    if not ends:
        assert shown(pieces) == text
    else:
        assert shown(pieces) == text[: ends[0] - max(len(s) for s in stops if text[: ends[0]].endswith(s))]


def test_a_stop_string_is_found_across_the_bytes_of_a_character():
    config = CONFIG.replace(vocab_size=256)
    writer = Writer(model(ByteTokenizer(), config), "x", greedy(stop="é!"))
    pieces = [writer.next(logits_of(byte, 256)).text for byte in "aé!".encode()]
    assert pieces == ["a", "", "", ""]
    assert writer.finished == "stop"


def test_an_end_ends_the_text_and_has_none_itself():
    writer = Writer(model(ends=(5, 2)), "a", greedy(stop="cb"))
    assert [p.text for p in write(writer, [4, 2])] == ["", "c"]
    assert writer.finished == "stop"


def test_what_every_text_begins_with_stands_before_the_prompt_which_may_then_be_empty():
    writer = Writer(model(starts=(5,)), "", greedy())
    assert writer.upcoming().token_ids.tolist() == [5]
    assert (writer.n_prompt, writer.n_written) == (1, 0)


def test_tokens_that_the_tokenizer_does_not_have_are_never_drawn():
    (piece,) = write(Writer(model(), "a", greedy()), [5])
    assert piece.token_id == 0


def test_a_full_context_slides_over_the_older_half_and_what_every_text_begins_with_stays():
    writer = Writer(model(starts=(5,)), "abc", greedy(max_tokens=6))
    write(writer, [1, 1, 1, 1])
    assert (writer.upcoming().keep, writer.room) == (7, 0)
    assert writer.n_forgotten == 0
    write(writer, [2])
    assert writer.upcoming().keep == 0
    assert writer.upcoming().token_ids.tolist() == [5, 1, 1, 2]
    assert writer.n_forgotten == 5


def test_a_full_context_ends_the_text_where_that_is_asked_for():
    writer = Writer(model(), "abcabca", greedy(when_full="stop"))
    assert [p.finished for p in write(writer, [1, 1, 1])] == [
        None,
        "context",
    ]  # the second from a full context
    longer = Writer(model(), "abcabcabc", greedy(when_full="stop"))
    assert longer.finished == "context"
    assert longer.n_written == 0


def test_of_a_prompt_beyond_the_context_the_beginning_and_the_end_are_read():
    writer = Writer(model(starts=(5,)), "abcabcabcabc", greedy())
    assert writer.upcoming().token_ids.tolist() == [5, *LETTERS.encode("cabcabc")]
    assert writer.n_forgotten == 5


def test_log_probabilities_are_those_of_the_logits_before_any_setting():
    writer = Writer(model(), "a", Request.of(temperature=0.0, logit_bias={3: 99.0}, log_probabilities=2))
    piece = writer.next(np.log(np.array([0.1, 0.05, 0.4, 0.2, 0.15, 0.1], np.float32)))
    assert piece.token_id == 3
    assert np.exp(piece.log_probability) == pytest.approx(0.2)
    assert [each.token_id for each in piece.alternatives] == [2, 3]
    assert np.exp(piece.alternatives[0].log_probability) == pytest.approx(0.4)


def test_token_ids_of_another_model_are_refused():
    with pytest.raises(UserError, match="Token ids are 0 to 5; the prompt's are 1 to 6"):
        Writer(model(), [1, 6], Request())
