"""An op as the page shows it: its derivation and its code, from its own module."""

import inspect
from typing import Any

from handgrad import ops
from handgrad.errors import require_known

OPS = {
    "embedding": "embedding", "norm": "", "norm1": "", "norm2": "", "residual1": "residual",
    "residual2": "residual", "query": "linear", "key": "linear", "value": "linear", "output": "linear",
    "query_norm": "rms_norm", "key_norm": "rms_norm", "query_turn": "rope", "key_turn": "rope",
    "scores": "attention", "probs": "softmax", "heads": "attention", "up": "linear", "gate": "linear",
    "down": "linear",
}  # fmt: skip
"""Which op computes what stands at a site, by the last part of its name; empty: see `op`."""


def op(site: str, config: Any) -> str:
    """The op that computes what stands at a site."""
    last = site.rpartition(".")[2]
    if last in ("norm", "norm1", "norm2"):
        return str(config.norm)
    if last == "positions":
        return "learned_position" if config.position == "learned" else "sinusoidal_position"
    if last == "hidden":
        return "gated" if config.gated else str(config.activation)
    if last == "logits":
        return "unembedding" if config.tied else "linear"
    return OPS[last]


def describe(name: str) -> dict[str, str]:
    """The op's derivation (Markdown, with LaTeX between dollars), its code, and where it stands.

    `UserError` where there is no op of that name.
    """
    require_known("op", name, ops.ALL)
    module = ops.ALL[name]
    title, _, text = (inspect.getdoc(module) or "").partition("\n")
    return {
        "name": name,
        "title": title,
        "text": text.strip(),
        "forward": inspect.getsource(module.forward),
        "backward": inspect.getsource(module.backward),
        "path": f"src/handgrad/ops/{name}.py",
    }
