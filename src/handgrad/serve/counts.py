"""What a server has done so far, as Prometheus reads it.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections import Counter
from collections.abc import Iterator


class Counts:
    """Numbers that only grow, since the server began."""

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        """Texts by how they ended: a finish reason, a failure, "left" or "refused"."""
        self.prompt_tokens = self.cached_tokens = self.written_tokens = self.passes = 0
        self.pass_seconds = self.first_token_seconds = 0.0


def exposition(counts: Counts, *, slots: int, running: int, waiting: int, cache_tokens: int) -> str:
    """All numbers in Prometheus's text format."""
    ended = [f'{{reason="{reason}"}} {n}' for reason, n in sorted(counts.ended.items())]
    tokens = [
        f'{{kind="prompt"}} {counts.prompt_tokens}',
        f'{{kind="cached"}} {counts.cached_tokens}',
        f'{{kind="written"}} {counts.written_tokens}',
    ]
    lines = [
        *_metric("texts_total", "counter", "Texts by how they ended.", ended),
        *_metric("tokens_total", "counter", "Tokens: of prompts, found in caches, written.", tokens),
        *_metric("passes_total", "counter", "Passes of the model.", [f" {counts.passes}"]),
        *_metric("pass_seconds_total", "counter", "Seconds in them.", [f" {counts.pass_seconds:.6f}"]),
        *_metric("first_token_seconds_total", "counter", "Seconds until first tokens, summed over texts.",
                 [f" {counts.first_token_seconds:.6f}"]),
        *_metric("slots", "gauge", "Texts that can be written at once.", [f" {slots}"]),
        *_metric("texts_running", "gauge", "Texts that are being written.", [f" {running}"]),
        *_metric("texts_waiting", "gauge", "Texts that wait for a slot.", [f" {waiting}"]),
        *_metric("cache_tokens", "gauge", "Tokens whose keys and values are kept.", [f" {cache_tokens}"]),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, about: str, values: list[str]) -> Iterator[str]:
    yield f"# HELP handgrad_{name} {about}"
    yield f"# TYPE handgrad_{name} {kind}"
    for value in values:
        yield f"handgrad_{name}{value}"
