"""A model taken apart: every named value of a prediction and its gradient, read, changed and explained.

    trace = handgrad.trace(model, "The capital of France is", target=" Paris")
    value, gradient = trace["blocks.0.attention.probs"]

On it stand

- `attribute`: what each token counts for;
- `ablate`: what is missing without a part;
- `patch`: what of one text carries an answer into another;
- `logit_lens`, `shares`, `in_words`: the stream and its gradients, read in the vocabulary;
- `explain_score`: why a head looks where it looks.
"""

from handgrad.trace.ablation import Ablation, ablate
from handgrad.trace.attribution import Attribution, attribute
from handgrad.trace.edits import add, replace, scale, zero
from handgrad.trace.lens import Words, in_words, logit_lens, shares
from handgrad.trace.patching import Patched, patch
from handgrad.trace.prediction import Trace, Value, memory, trace
from handgrad.trace.scores import Score, explain_score
from handgrad.trace.sites import Site

__all__ = [
    "Ablation",
    "Attribution",
    "Patched",
    "Score",
    "Site",
    "Trace",
    "Value",
    "Words",
    "ablate",
    "add",
    "attribute",
    "explain_score",
    "in_words",
    "logit_lens",
    "memory",
    "patch",
    "replace",
    "scale",
    "shares",
    "trace",
    "zero",
]
