"""The places of a transformer that have a name: values between its operations, in the order of computation.

Names follow the weights: `blocks.0.attention.query` is what the weight of that name computes.
"""

import difflib
import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from handgrad.errors import UserError, shown
from handgrad.model.config import ModelConfig

NEAR = 4
"""Names that an error suggests."""


class Site(NamedTuple):
    """A named value."""

    name: str
    axes: str
    """The letters of its axes (see `shapes`), without the batch's: "T D"."""
    meaning: str


def of(config: ModelConfig) -> list[Site]:
    """All sites of such a model, in the order of computation."""
    return [*_before(config), *_blocks(config), *_after(config)]


def stream(config: ModelConfig) -> list[str]:
    """The names of the residual stream's states: its beginning, and after each sum; post-norm, each norm."""
    step = "residual" if config.norm_placement == "pre" else "norm"
    sums = [f"blocks.{layer}.{step}{part}" for layer in range(config.n_layers) for part in (1, 2)]
    return [_before(config)[-1].name, *sums]


def shape(site: Site, config: ModelConfig, n_tokens: int) -> tuple[int, ...]:
    """The sizes of the site's axes for a text of `n_tokens`."""
    sizes = {
        "T": n_tokens, "S": n_tokens, "D": config.d_model, "F": config.ff_width, "V": config.vocab_size,
        "H": config.n_heads, "G": config.kv_heads, "K": config.head_width,
    }  # fmt: skip
    return tuple(sizes[letter] for letter in site.axes.split())


def matching(patterns: str | Iterable[str], config: ModelConfig) -> list[Site]:
    """The sites that patterns such as `blocks.*.attention.probs` name; `UserError` where one names none."""
    sites, chosen = of(config), set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = {site.name for site in sites if fnmatch.fnmatchcase(site.name, pattern)}
        if not found:
            raise unknown(pattern, [site.name for site in sites])
        chosen |= found
    return [site for site in sites if site.name in chosen]


def unknown(name: str, names: Sequence[str]) -> UserError:
    """What to raise for a name that there is not: it lists near ones."""
    near = difflib.get_close_matches(name, names, n=NEAR, cutoff=0.0) if isinstance(name, str) else []
    return UserError(
        f"There is no site {shown(name)} in this model; near are {', '.join(near or names[:NEAR])}."
    )


def _before(config: ModelConfig) -> list[Site]:
    start = [Site("embedding", "T D", "each token's embedding")]
    if config.position != "rope":
        start.append(Site("positions", "T D", "with its position added: where the residual stream begins"))
    return start


def _blocks(config: ModelConfig) -> Iterator[Site]:
    for layer in range(config.n_layers):
        parts = {
            "attention": [*_attention(config, layer)],
            "residual1": [Site("residual1", "T D", "the stream with what attention wrote")],
            "feed_forward": [*_feed_forward(config)],
            "residual2": [Site("residual2", "T D", "the stream with what the feed-forward block wrote")],
            "norm1": [Site("norm1", "T D", "the stream, normalized")],
            "norm2": [Site("norm2", "T D", "the stream, normalized")],
        }
        for part in PRE if config.norm_placement == "pre" else POST:
            for site in parts[part]:
                yield site._replace(name=f"blocks.{layer}.{site.name}")


PRE = ("norm1", "attention", "residual1", "norm2", "feed_forward", "residual2")
POST = ("attention", "residual1", "norm1", "feed_forward", "residual2", "norm2")


def _attention(config: ModelConfig, layer: int) -> Iterator[Site]:
    yield Site("attention.query", "H T K", "what each head looks for")
    yield Site("attention.key", "G T K", "what it is found by")
    yield Site("attention.value", "G T K", "what is fetched")
    if config.qk_norm:
        yield Site("attention.query_norm", "H T K", "queries, normalized")
        yield Site("attention.key_norm", "G T K", "keys, normalized")
    if config.turns(layer):
        yield Site("attention.query_turn", "H T K", "queries, turned by their position")
        yield Site("attention.key_turn", "G T K", "keys, turned by their position")
    yield Site("attention.scores", "H T S", "how queries and keys match, before the mask")
    yield Site("attention.probs", "H T S", "what each head looks at")
    yield Site("attention.heads", "H T K", "the values that it sees, averaged")
    yield Site("attention.output", "T D", "what attention writes into the stream")


def _feed_forward(config: ModelConfig) -> Iterator[Site]:
    yield Site("feed_forward.up", "T F", "widened; without a gate, before the activation")
    if config.gated:
        yield Site("feed_forward.gate", "T F", "what opens it, before the activation")
    yield Site("feed_forward.hidden", "T F", "the neurons: after the activation")
    yield Site("feed_forward.down", "T D", "what the feed-forward block writes into the stream")


def _after(config: ModelConfig) -> Iterator[Site]:
    if config.norm_placement == "pre":
        yield Site("norm", "T D", "the stream at its end, normalized")
    yield Site("logits", "T V", "the scores of what comes next")
