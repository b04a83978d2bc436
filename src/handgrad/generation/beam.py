r"""Beam search: of all continuations, follow the few that are likeliest as a whole.

$$\operatorname{score}(y) = \frac{1}{|y|^{\alpha}} \sum_t \log p(y_t \mid y_{<t})$$

Greedy writing takes the likeliest token each time, and may walk past a likelier text. Here `n_beams` texts
grow side by side: each step looks at the likeliest of all their continuations by one token. Of the best
`n_beams` of them, those that are over leave, with their score; the best that are not over go on. $\alpha$ is
the length penalty: above 0 it favours long texts.

With `n_beams` finished texts the search ends as `early_stopping` says: with True at once; with False where
the best text in progress, as it stands, does not score above the worst finished one; with "never" where it
would not either if all that follows were certain.

These are the rules of transformers' `generate(num_beams=n)`, whose ids tests compare. Source: Sutskever,
Vinyals & Le (2014), arXiv:1409.3215; the division by the length, Wu et al. (2016), arXiv:1609.08144.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from handgrad.engines.engine import Decoding
from handgrad.errors import UserError, require_number, require_whole, shown
from handgrad.formats.model_folder import Model
from handgrad.generation.batch import AUTO, opened
from handgrad.generation.sampling import log_probabilities, require_finite
from handgrad.generation.writer import encode_prompt, newest
from handgrad.shapes import Float

MOST_BEAMS = 256
STOPPING = (False, True, "never")


class Beam(NamedTuple):
    """A text in progress, or a finished one."""

    token_ids: tuple[int, ...]
    """What follows the prompt, an end included."""
    score: float
    """The sum of the log-probabilities in nats; of a finished text divided by a power of its length."""


class Settings(NamedTuple):
    n_beams: int
    max_tokens: int
    length_penalty: float
    early_stopping: bool | str
    ends: tuple[int, ...]


def beam_search(
    model: Model,
    prompt: str | Sequence[int],
    *,
    n_beams: int = 4,
    max_tokens: int = 200,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    engine: str = AUTO,
    precision: str = "auto",
    cache: str = "auto",
    compiling: Callable[[str], object] = lambda kernel: None,
) -> list[Beam]:
    """The best continuations of `prompt`, at most `n_beams`, the best first.

    A text ends with an end of the model, after `max_tokens` tokens, or where the model's context is full; of
    a prompt beyond the context, its end is read.
    """
    token_ids = [*model.starts, *encode_prompt(model, prompt)]
    window = newest(token_ids, model.starts, model.config.context_length)
    room = model.config.context_length - len(window) + 1  # the last token is not read
    max_tokens = min(require_whole("max_tokens", max_tokens, least=1), room)
    penalty, stopping = _require_penalty(length_penalty), _require_stopping(early_stopping)
    settings = Settings(_require_beams(n_beams), max_tokens, penalty, stopping, model.ends)
    decoding = opened(model, engine, precision, cache, n_beams, len(window) + max_tokens, compiling)
    known = model.tokenizer.vocab_size if model.tokenizer else model.config.vocab_size
    return search(_Texts(decoding, window, known).follow, settings)


def search(follow: Callable[[list[Beam]], Float[np.ndarray, "beams V"]], settings: Settings) -> list[Beam]:
    """The finished texts, the best first. `follow` gives the log-probabilities of what follows each beam."""
    running, finished = [Beam((), 0.0)], list[Beam]()
    for length in range(1, settings.max_tokens + 1):
        candidates = _extended(running, follow(running), settings)
        over = [beam.token_ids[-1] in settings.ends or length == settings.max_tokens for beam in candidates]
        finished += [
            Beam(beam.token_ids, beam.score / length**settings.length_penalty)
            for beam, is_over in zip(candidates[: settings.n_beams], over, strict=False)
            if is_over
        ]
        finished = sorted(finished, key=lambda beam: -beam.score)[: settings.n_beams]
        running = [beam for beam, is_over in zip(candidates, over, strict=True) if not is_over]
        running = running[: settings.n_beams]
        if not running or _is_decided(running[0].score, length, finished, settings):
            break
    return finished


def _extended(running: list[Beam], following: Float[np.ndarray, "beams V"], settings: Settings) -> list[Beam]:
    """The likeliest continuations by one token: so many that `n_beams` of them are not over."""
    n = settings.n_beams * max(2, 1 + len(settings.ends))
    sums = (following + np.array([[beam.score] for beam in running])).reshape(-1)
    best = np.argpartition(-sums, n)[:n] if n < len(sums) else np.arange(len(sums))
    found = [np.unravel_index(i, following.shape) for i in best[np.argsort(-sums[best], kind="stable")]]
    return [
        Beam((*running[row].token_ids, int(token_id)), float(sums[row * following.shape[1] + token_id]))
        for row, token_id in found
        if np.isfinite(following[row, token_id])
    ]


def _is_decided(best: float, length: int, finished: list[Beam], settings: Settings) -> bool:
    """Whether no text in progress is worth waiting for; the best of them has the sum `best`."""
    if len(finished) < settings.n_beams or settings.early_stopping is True:
        return len(finished) == settings.n_beams
    if settings.early_stopping == "never" and settings.length_penalty > 0.0:
        length = settings.max_tokens  # where a sum below zero weighs least
    return best / length**settings.length_penalty <= finished[-1].score


class _Texts:
    """The beams' texts in a decoding: each is read where the most of it is in a cache already."""

    def __init__(self, decoding: Decoding, prompt: list[int], n_known: int):
        self._decoding, self._prompt, self._n_known = decoding, prompt, n_known
        self._read: list[list[int]] = [[] for _ in decoding.lengths]

    def follow(self, beams: list[Beam]) -> Float[np.ndarray, "beams V"]:
        """The log-probabilities of what follows each beam."""
        wanted = [[*self._prompt, *beam.token_ids] for beam in beams]
        texts = self._placed(wanted)
        pieces = []
        for text, token_ids in zip(texts, wanted, strict=True):
            shared = _shared(self._read[text], token_ids[:-1])
            if shared < len(self._read[text]):
                self._decoding.cut(text, shared)
            pieces.append(np.array(token_ids[shared:]))
            self._read[text] = token_ids
        with np.errstate(all="ignore"):  # what comes out is looked at
            logits = self._decoding.read(pieces, texts)
        require_finite(logits)
        following = np.stack([log_probabilities(row) for row in logits])
        following[:, self._n_known :] = -np.inf  # tokens that have no text
        return following

    def _placed(self, wanted: list[list[int]]) -> list[int]:
        """Which text each is to be read as: the pairs that share the most are made first."""
        pairs = [
            (-_shared(read, token_ids), i, text)
            for i, token_ids in enumerate(wanted)
            for text, read in enumerate(self._read)
        ]
        places: dict[int, int] = {}
        for _, i, text in sorted(pairs):
            if i not in places and text not in places.values():
                places[i] = text
        return [places[i] for i in range(len(wanted))]


def _shared(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with."""
    n = min(len(one), len(other))
    while one[:n] != other[:n]:  # they differ near the end, where they do
        n -= 1
    return n


def _require_beams(n_beams: int) -> int:
    n_beams = require_whole("n_beams", n_beams, least=1)
    if n_beams > MOST_BEAMS:
        raise UserError(f"There are at most {MOST_BEAMS} beams; got {shown(n_beams)}. Try 4.")
    return n_beams


def _require_penalty(length_penalty: float) -> float:
    penalty = require_number("length_penalty", length_penalty)
    if not -10.0 <= penalty <= 10.0:
        raise UserError(f"length_penalty is a power of the length, -10 to 10; got {shown(penalty)}. Try 1.")
    return float(penalty)


def _require_stopping(early_stopping: bool | str) -> bool | str:
    try:
        return STOPPING[STOPPING.index(early_stopping)]
    except ValueError:
        raise UserError(
            f'early_stopping is True, False or "never"; got {shown(early_stopping)}. Leave it out.'
        ) from None
