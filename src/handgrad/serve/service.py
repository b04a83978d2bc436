"""From a request to the texts that it asks for: prompts, writers, and whether there is room for them."""

import secrets
import time
from dataclasses import dataclass, field

import numpy as np

from handgrad.formats.model_folder import Model
from handgrad.generation import chat_prompt, constraint
from handgrad.generation.chat_prompt import Prompt
from handgrad.generation.constraint import Grammar
from handgrad.generation.request import Request
from handgrad.generation.sampling import Sampling
from handgrad.generation.writer import Writer, encode_prompt
from handgrad.serve.answer import refused_in_words
from handgrad.serve.bodies import Chat, Completion, ResponseFormat, Settings
from handgrad.serve.errors import ApiError
from handgrad.serve.job import Job
from handgrad.serve.scheduler import Scheduler
from handgrad.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Service:
    """A model under its name, and who writes with it. A text has room for `capacity` tokens."""

    name: str
    model: Model
    tokenizer: Tokenizer
    scheduler: Scheduler
    capacity: int
    seconds: float
    """The most that an answer may take."""
    created: int = field(default_factory=lambda: int(time.time()))

    def completion_jobs(self, body: Completion) -> list[Job]:
        """The texts that continue the prompts: all of the first, then all of the second."""
        self._require(body, len(body.prompts) * body.n)
        prompts = [Prompt(encode_prompt(self.model, prompt)) for prompt in body.prompts]
        return [job for prompt in prompts for job in self._jobs(body, prompt, body.max_tokens)]

    def chat_jobs(self, body: Chat) -> list[Job]:
        """The texts that answer the messages."""
        self._require(body, body.n)
        prompt = chat_prompt.prompt(self.model, [message.plain for message in body.messages])
        return self._jobs(body, prompt, body.max_completion_tokens or body.max_tokens or self.capacity)

    def token_ids(self, text: str, *, starts: bool) -> np.ndarray:
        """The ids of a text, behind those that stand before every text if wished."""
        ids = self.tokenizer.encode(text)
        return np.concatenate([np.array(self.model.starts, np.int64), ids]) if starts else ids

    def shown(self, token: int) -> str:
        """The text of one token; a part of a character is shown as the replacement character."""
        return self.tokenizer.decode([token])

    def require_name(self, name: str | None) -> None:
        """Raise `ApiError` for another model's name."""
        if name is not None and name != self.name:
            sentence = f"There is no model {name[:100]!a} here; there is {self.name!a}."
            raise ApiError(404, sentence, param="model", code="model_not_found")

    def _require(self, body: Settings, n_texts: int) -> None:
        """What can be said before anything is computed."""
        self.require_name(body.model)
        if n_texts > self.scheduler.most_at_once:
            sentence = f"This server writes or holds {self.scheduler.most_at_once} texts; got {n_texts}."
            raise ApiError(400, sentence, param="n", code="too_many_texts")
        with refused_in_words():
            self.scheduler.require_room(n_texts)

    def _jobs(self, body: Settings, prompt: Prompt, max_tokens: int) -> list[Job]:
        """n texts after one prompt: the first has the seed that was asked for, the others the next ones."""
        seed = secrets.randbelow(1 << 62) if body.seed is None else body.seed
        grammar, sampling = _grammar(body.response_format), _sampling(body)
        requests = [
            Request(
                max_tokens=max_tokens,
                sampling=sampling,
                seed=seed + number,
                stop=(*body.stops, *prompt.stops),
                when_full="stop",
                log_probabilities=body.alternatives,
                grammar=grammar,
            )
            for number in range(body.n)
        ]
        writers = [Writer(self.model, prompt.token_ids, request, self.capacity) for request in requests]
        token_ids = self._read_first(writers[0])
        return [Job(token_ids, writer, seconds=self.seconds) for writer in writers]

    def _read_first(self, writer: Writer) -> np.ndarray:
        """The prompt as the model reads it; `ApiError` where a text has no room for it."""
        if writer.finished is not None:
            sentence = f"A prompt has at most {self.capacity} tokens here; this one has {writer.n_prompt}."
            raise ApiError(400, sentence, code="context_length_exceeded")
        return writer.upcoming().token_ids


def _sampling(body: Settings) -> Sampling:
    return Sampling(
        temperature=body.temperature,
        top_k=body.top_k,
        top_p=body.top_p,
        min_p=body.min_p,
        repetition_penalty=body.repeat_penalty,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        dry_multiplier=body.dry_multiplier,
        dry_base=body.dry_base,
        dry_allowed_length=body.dry_allowed_length,
        logit_bias=body.logit_bias,
    )


def _grammar(wanted: ResponseFormat) -> Grammar | None:
    if wanted.json_schema is not None:
        return constraint.json_schema(wanted.json_schema.schema_)
    return constraint.json_schema({"type": "object"}) if wanted.type == "json_object" else None
