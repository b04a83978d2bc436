"""Traces in notebooks: HTML."""

import html
from typing import TYPE_CHECKING

import numpy as np

from handgrad.shapes import Float

if TYPE_CHECKING:
    from handgrad.trace.prediction import Trace

STYLE = "font-family: monospace; white-space: pre-wrap"


def table(trace: "Trace") -> str:
    """Every kept site: its name, shape and meaning, the size of its numbers and of their gradients."""
    rows = "".join(
        f"<tr><td style='text-align: left'><code>{site.name}</code></td>"
        f"<td>{' × '.join(map(str, trace.value(site.name).shape))}</td>"
        f"<td>{_rms(trace.value(site.name)):.3g}</td><td>{_rms(trace.gradient(site.name)):.3g}</td>"
        f"<td style='text-align: left'>{html.escape(site.meaning)}</td></tr>"
        for site in trace.sites
    )
    words = ", ".join(f"<code>{html.escape(repr(word))}</code> {prob:.1%}" for word, prob in trace.next(5))
    return (
        f"<div><code>{html.escape(''.join(trace.tokens))}</code></div>"
        f"<div>{_said(trace)}; next: {words}</div>"
        f"<table><tr><th style='text-align: left'>site</th><th>shape</th><th>rms</th><th>rms of gradient</th>"
        f"<th style='text-align: left'>what stands there</th></tr>{rows}</table>"
    )


def coloured(tokens: list[str], counts: Float[np.ndarray, " T"]) -> str:
    """A text whose tokens are as red as they raise the objective, and as blue as they lower it."""
    largest = float(np.abs(counts).max()) or 1.0
    spans = "".join(
        f"<span title='{count:+.4g}' style='background: rgba({'200,40,40' if count > 0 else '40,80,200'}, "
        f"{0.6 * abs(count) / largest:.2f})'>{html.escape(token)}</span>"
        for token, count in zip(tokens, counts.tolist(), strict=True)
    )
    return f"<div style='{STYLE}'>{spans}</div>"


def _said(trace: "Trace") -> str:
    unit = " nats" if trace.objective.kind == "loss" else ""
    return f"{trace.objective.kind} {trace.result:.4f}{unit}"


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
