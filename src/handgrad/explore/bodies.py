"""What the page may ask, with bounds: what is not here is refused."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(min_length=1, max_length=64)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Token = Annotated[str, Field(min_length=1, max_length=200)] | int
TEXT = 100_000
"""Characters of a text."""


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EditBody(Body):
    """One value switched off, or multiplied."""

    site: Name
    kind: Literal["zero", "scale"]
    factor: Annotated[float, Field(ge=-1e6, le=1e6)] = 0.0
    where: Annotated[list[int | None], Field(max_length=4)] = []
    """A number or all (null) along each of the first axes."""


class Question(Body):
    """A text, what is asked of it, and what is changed in between."""

    text: Annotated[str, Field(max_length=TEXT)] | None = None
    ids: Annotated[list[int], Field(max_length=TEXT)] | None = None
    target: Token | None = None
    rival: Token | None = None
    objective: Literal["loss", "logit"] | None = None
    edits: Annotated[list[EditBody], Field(max_length=256)] = []
    checkpoint: Name | None = None


class OfTrace(Body):
    id: Id


class Draw(OfTrace):
    """The settings of sampling."""

    temperature: Annotated[float, Field(ge=0, le=100)] = 1.0
    top_k: Annotated[int, Field(ge=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=200)] = 20
    seed: Annotated[int, Field(ge=0, lt=1 << 62)] = 0


class Attribute(OfTrace):
    method: Literal["integrated gradients", "gradient x input"] = "integrated gradients"
    site: Name = "embedding"


class Ablate(OfTrace):
    each: Literal["head", "attention", "feed_forward", "neuron"] = "head"
    by: Literal["zero", "mean"] = "zero"
    layers: Annotated[list[int], Field(max_length=1000)] | None = None


class Patch(OfTrace):
    other: Annotated[str, Field(max_length=TEXT)]
    each: Literal["position", "head"] = "position"
    estimated: bool = False


class Shares(OfTrace):
    target: Token
    rival: Token | None = None


class ScoreBody(OfTrace):
    layer: int
    head: int
    query: int
    key: int
    n: Annotated[int, Field(ge=1, le=200)] = 10


class Neuron(Body):
    layer: int
    unit: int
    n: Annotated[int, Field(ge=1, le=50)] = 10


class Why(Body):
    parameter: Name
    index: Annotated[list[int], Field(max_length=4)]
