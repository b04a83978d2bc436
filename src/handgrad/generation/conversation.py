"""A conversation with a model: questions, answers piece by piece, and what is forgotten.

How a model reads messages, `chat_prompt` says.
"""

import dataclasses
from collections.abc import Callable, Generator

import numpy as np

from handgrad import engines
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.generation.chat_prompt import Message, prompt
from handgrad.generation.prefix import n_shared
from handgrad.generation.request import Request
from handgrad.generation.writer import Writer, require_tokenizer

PART = 256
"""Tokens of a prompt that are read at once."""


class Conversation:
    """Questions and answers so far, and the cache in which the model has read them.

    What a turn shares with the one before is not read again.
    """

    def __init__(
        self,
        model: Model,
        request: Request,
        system: str | None = None,
        *,
        engine: str = "cpu",
        precision: str = "auto",
        cache: str = "auto",
        compiling: Callable[[str], object] = lambda kernel: None,
    ):
        """`system` is an instruction that stands before all questions."""
        require_tokenizer(model)
        self.model, self.request, self.system = model, request, system
        self.messages: list[Message] = []
        self.n_forgotten = 0
        """Messages at the beginning that have no room in the context any more: they are not seen."""
        self.finished: str | None = None
        """Why the last answer is over, as in `Piece`; None where it was broken off."""
        self._decoding = engines.get(engine).decoding(
            model.config, model.weights, precision=precision, cache=cache, blocks=model.blocks,
            compiling=compiling,
        )  # fmt: skip
        self._read: list[int] = []
        self._n_answers = 0

    def ask(self, question: str) -> Generator[str, None, None]:
        """The answer, piece by piece. One that is broken off is kept as far as it came."""
        return self._answer([*self.messages, {"role": "user", "content": question}])

    def retry(self) -> Generator[str, None, None]:
        """Another answer to the last question."""
        if not self.messages:
            raise UserError("There is no question yet that could be answered again. Ask one.")
        return self._answer(self.messages[:-1])

    def restart(self) -> None:
        """Forget all messages."""
        self.messages, self.n_forgotten = [], 0

    def _answer(self, asked: list[Message]) -> Generator[str, None, None]:
        writer = self._writer(asked)
        self._n_answers += 1
        return self._kept(asked, writer)

    def _kept(self, asked: list[Message], writer: Writer) -> Generator[str, None, None]:
        """What is written, without blanks at its beginning; it becomes a message, however far it comes."""
        text, self.finished = "", None
        try:
            for written in self._pieces(writer):
                piece = written if text else written.lstrip()
                text += piece
                yield piece
            self.finished = writer.finished
        finally:
            self.messages = [*asked, {"role": "assistant", "content": text.rstrip()}]

    def _writer(self, asked: list[Message]) -> Writer:
        """A writer of the answer to as many of the last messages as leave it a quarter of the context."""
        instruction = [] if self.system is None else [{"role": "system", "content": self.system}]
        for first in range(0, len(asked), 2):
            shown = prompt(self.model, [*instruction, *asked[first:]])
            writer = Writer(self.model, shown.token_ids, self._request(shown.stops))
            if writer.room >= min(self.request.max_tokens, writer.capacity // 4):
                self.n_forgotten = first
                return writer
        raise UserError(
            f"The model's context is {writer.capacity} tokens, and a quarter of them is for the answer; this "
            f"question alone takes {writer.n_prompt}. Ask a shorter one."
        )

    def _request(self, stops: tuple[str, ...]) -> Request:
        seed, stops = self.request.seed + self._n_answers, (*self.request.stop, *stops)
        return dataclasses.replace(self.request, seed=seed, stop=stops, when_full="stop")

    def _pieces(self, writer: Writer) -> Generator[str, None, None]:
        """Pieces of text, which may be empty: while the prompt is read one can break it off, too."""
        unread = writer.upcoming().token_ids
        kept = n_shared(self._read, unread)
        self._decoding.cut(0, kept)
        self._read, unread = self._read[:kept], unread[kept:]
        while writer.finished is None:
            part, unread = unread[:PART], unread[PART:]
            with np.errstate(all="ignore"):  # the writer looks at what comes out
                (logits,) = self._decoding.read([part])
            self._read += part.tolist()
            if unread.size:
                yield ""
                continue
            piece = writer.next(logits)
            unread = np.array([piece.token_id])
            yield piece.text
