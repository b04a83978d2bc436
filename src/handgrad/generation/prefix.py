"""What of a prompt is in a cache already: its beginning, as far as it is the text that was read last."""

from collections.abc import Sequence
from itertools import takewhile

import numpy as np


def n_shared(read: Sequence[int], token_ids: np.ndarray) -> int:
    """How many tokens at the beginning of a prompt are those that were read.

    Its last token is never among them: it has to be read for the logits of what follows.
    """
    pairs = zip(read, token_ids[:-1].tolist(), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
