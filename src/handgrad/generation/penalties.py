r"""What changes the logits before the draw: biases, and penalties for tokens that a text has already.

Of a token $i$ with the logit $z_i$, which stands $c_i$ times in what was written:

$$\text{bias: } z_i + b_i,\qquad
\text{repetition: } z_i > 0\ ?\ z_i / \theta : z_i\,\theta,\qquad
\text{presence, frequency: } z_i - \alpha\,[c_i > 0] - \beta\,c_i$$

$$\text{DRY: } z_i - m\,b^{\,n_i - a}\ \text{ where } n_i \ge a$$

where $n_i$ is how many tokens at the text's end stood before $i$ at an earlier place already: the length of
the repetition that $i$ would continue. Repetition and DRY look at the prompt too, presence and frequency at
what was written alone.

Sources: repetition, Keskar et al. (2019), CTRL, arXiv:1909.05858; presence, frequency and bias, OpenAI's API
reference; DRY ("don't repeat yourself"), p-e-w (2024), text-generation-webui, pull request 5677.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from handgrad.shapes import Float

LONGEST_REPETITION = 50
"""Tokens up to which DRY looks back from each place: powers stay finite."""


def bias(logits: Float[np.ndarray, " V"], of: Mapping[int, float]) -> Float[np.ndarray, " V"]:
    """Logits with `of[i]` added to that of token i."""
    changed = logits.copy()
    changed[list(of.keys())] += list(of.values())
    return changed


def repetition(
    logits: Float[np.ndarray, " V"], token_ids: Sequence[int], theta: float
) -> Float[np.ndarray, " V"]:
    """Tokens that stand in the text become less likely for theta > 1, whatever the sign of their logits."""
    changed, there = logits.copy(), np.unique(np.asarray(token_ids, np.int64))
    z = changed[there]
    changed[there] = np.where(z > 0, z / theta, z * theta)
    return changed


def presence_and_frequency(
    logits: Float[np.ndarray, " V"], written: Sequence[int], presence: float, frequency: float
) -> Float[np.ndarray, " V"]:
    """A token loses `presence` once it was written, and `frequency` for every time."""
    counts = np.bincount(np.asarray(written, np.int64), minlength=len(logits))
    return logits - presence * (counts > 0) - frequency * counts


def dry(
    logits: Float[np.ndarray, " V"],
    token_ids: Sequence[int],
    *,
    multiplier: float,
    base: float,
    allowed_length: int,
    breakers: Sequence[int] = (),
) -> Float[np.ndarray, " V"]:
    """A token that would continue a repetition of `allowed_length` tokens or more becomes unlikelier by its
    length. No repetition goes across `breakers`."""
    penalties = np.zeros(len(logits))
    for length, followers in _repetitions(np.asarray(token_ids, np.int64), set(breakers)):
        if length >= allowed_length:  # longer ones come later, and their penalty replaces this one
            penalties[followers] = multiplier * base ** (length - allowed_length)
    return logits - penalties


def _repetitions(token_ids: np.ndarray, breakers: set[int]) -> list[tuple[int, np.ndarray]]:
    """For every length, the tokens that followed where the text's last tokens stood before."""
    last = len(token_ids) - 1
    places, found = np.arange(last), []  # the end of an earlier occurrence
    for length in range(1, min(last, LONGEST_REPETITION) + 1):
        token = token_ids[last - length + 1]
        places = places[places >= length - 1]
        places = places[token_ids[places - length + 1] == token]
        if token in breakers or not places.size:
            break
        found.append((length, token_ids[places + 1]))
    return found
