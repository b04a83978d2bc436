"""What requests contain: OpenAI's names, and llama.cpp's for the samplers that OpenAI does not have.

A field that this server does not compute is refused by name, unless it asks for nothing (null, false, empty).
Sources: https://platform.openai.com/docs/api-reference, and tools/server/README.md of llama.cpp.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MOST_CHOICES, MOST_STOPS, MOST_PROMPTS, MOST_MESSAGES = 16, 16, 64, 4096
UNUSED = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
"""Fields of OpenAI's that never change an answer."""

Token = Annotated[int, Field(ge=0, lt=1 << 31)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Body(BaseModel):
    """A JSON object that has known fields only."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_asks_for_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = cls.model_fields.keys() | {field.alias for field in cls.model_fields.values()}
        asks = {name: value for name, value in data.items() if value is not None and name not in UNUSED}
        return {name: value for name, value in asks.items() if value or name in known}


class StreamOptions(Body):
    include_usage: bool = False


class JsonSchema(Body):
    name: str = "answer"
    description: str = ""
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool = True


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _require_schema(self) -> "ResponseFormat":
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("type json_schema wants a json_schema with a schema in it")
        return self


class Settings(Body):
    """What completions and chats have in common: how to write."""

    model: str | None = None
    n: int = Field(1, ge=1, le=MOST_CHOICES)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] = []
    seed: int | None = Field(None, ge=0, lt=1 << 62)
    temperature: float = Field(1.0, ge=0, le=100)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int | None = Field(None, ge=1)
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repeat_penalty: float = Field(1.0, gt=0, le=10)
    dry_multiplier: float = Field(0.0, ge=0, le=100)
    dry_base: float = Field(1.75, ge=1, le=100)
    dry_allowed_length: int = Field(2, ge=1, lt=1 << 31)
    logit_bias: Annotated[dict[Token, float], Field(max_length=1024)] = {}
    response_format: ResponseFormat = ResponseFormat(type="text")

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def alternatives(self) -> int | None:
        """How many tokens beside the chosen one have their log-probability told; None: nothing is told."""
        raise NotImplementedError


class Completion(Settings):
    """The body of /v1/completions."""

    prompt: (
        str
        | Annotated[list[Token], Field(min_length=1)]
        | Annotated[list[str] | list[list[Token]], Field(min_length=1, max_length=MOST_PROMPTS)]
    )
    max_tokens: int = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=20)

    @property
    def alternatives(self) -> int | None:
        return self.logprobs

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)


class TextPart(Body):
    type: Literal["text"]
    text: str


class Message(Body):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def plain(self) -> dict[str, str]:
        """As chat templates read it."""
        whole = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": whole}


class Chat(Settings):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)

    @property
    def alternatives(self) -> int | None:
        return self.top_logprobs if self.logprobs else None


class Tokenize(Body):
    """The body of /tokenize."""

    content: str
    add_special: bool = False
    with_pieces: bool = False


class Detokenize(Body):
    """The body of /detokenize."""

    tokens: list[Token]
