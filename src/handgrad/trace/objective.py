r"""The number that is differentiated: what a prediction is asked for.

With the logits $z$ (T, V) of a text, and $p = \operatorname{softmax}(z)$:

- of the text itself, as in training: the mean of $-\log p_{t,\,id_{t+1}}$;
- of a token $a$ that may come next: its loss $-\log p_{T,a}$, or its logit $z_{T,a}$;
- of it against a rival $b$: $z_{T,a} - z_{T,b}$, the logarithm of how much likelier it is.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from handgrad.errors import UserError, require_known
from handgrad.formats.model_folder import Model
from handgrad.ops import softmax_cross_entropy
from handgrad.shapes import Float, Int
from handgrad.trace import text as texts

Kind = Literal["loss", "logit"]


@dataclass(frozen=True)
class Objective:
    """A number for each text of a batch, and its gradient with respect to the logits."""

    kind: Kind = "loss"
    target: int | None = None
    """None: each token's next one."""
    rival: int | None = None

    def __call__(self, logits: Float[np.ndarray, "B T V"], token_ids: Int[np.ndarray, "B T"]) -> np.ndarray:
        """The numbers (B,)."""
        if self.kind == "logit":
            last = logits[:, -1]
            return last[:, self.target] - (0.0 if self.rival is None else last[:, self.rival])
        rows = zip(logits, self._targets(token_ids), strict=True)
        return np.array([softmax_cross_entropy.forward(*self._counted(*row))[0] for row in rows])

    def gradient(
        self, logits: Float[np.ndarray, "B T V"], token_ids: Int[np.ndarray, "B T"]
    ) -> Float[np.ndarray, "B T V"]:
        """Of each text's number, with respect to its own logits."""
        gradient = np.zeros_like(logits)
        if self.kind == "logit":
            gradient[:, -1, self.target] = 1.0
            if self.rival is not None:
                gradient[:, -1, self.rival] -= 1.0
            return gradient
        for row, wanted, into in zip(logits, self._targets(token_ids), gradient, strict=True):
            shown, targets = self._counted(row, wanted)
            _, saved = softmax_cross_entropy.forward(shown, targets)
            (into[-len(targets) :],) = softmax_cross_entropy.backward(1.0, saved)
        return gradient

    def _counted(self, logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows that count: all, or the last one."""
        return (logits, targets) if self.target is None else (logits[-1:], targets[-1:])

    def _targets(self, token_ids: Int[np.ndarray, "B T"]) -> Int[np.ndarray, "B T"]:
        targets = np.full_like(token_ids, -1)
        if self.target is None:
            targets[:, :-1] = token_ids[:, 1:]
        else:
            targets[:, -1] = self.target
        return targets


def of(model: Model, n_tokens: int, target: Any, rival: Any, kind: str | None) -> Objective:
    """The objective that is asked for; `UserError` where it says nothing.

    Where no `kind` is named it is "loss", and "logit" against a rival.
    """
    kind = kind or ("loss" if rival is None else "logit")
    require_known("objective", kind, get_args(Kind))
    if target is None and kind == "logit":
        raise UserError("A logit is that of a token that may come next. Name it: target=.")
    if target is None and n_tokens < 2:
        raise UserError("The loss of a text is that of its second token on; this has one. Name a target.")
    if rival is not None and kind == "loss":
        raise UserError('Two tokens are compared by their logits. Leave out objective="loss".')
    token = None if target is None else texts.token(model, target, "target")
    other = None if rival is None else texts.token(model, rival, "rival")
    return Objective("logit" if kind == "logit" else "loss", token, other)
