r"""Losses to compare with, in nats a token: those of models that know little.

Uniform: all tokens are equally likely, $\log V$. Unigram: tokens have their frequencies. Bigram: tokens have
their frequencies after the token before. Frequencies are counted in the training text, with one added to each
count (Laplace); losses are measured on the validation text.
"""

import numpy as np

NAMES = ("uniform", "unigram", "bigram")
N_TOKENS = 1 << 20
LARGEST_BIGRAM_TABLE = 1024


def losses(train: np.ndarray, validation: np.ndarray, vocab_size: int) -> dict[str, float]:
    """The baselines' validation losses by name; bigrams only where their table is small enough."""
    train, validation = (np.asarray(tokens[:N_TOKENS]).astype(np.int64) for tokens in (train, validation))
    found = {"uniform": float(np.log(vocab_size))}
    counts = np.bincount(train, minlength=vocab_size) + 1.0
    found["unigram"] = float(-np.log(counts / counts.sum())[validation].mean())
    if vocab_size <= LARGEST_BIGRAM_TABLE:
        pairs = np.bincount(train[:-1] * vocab_size + train[1:], minlength=vocab_size**2) + 1.0
        table = pairs.reshape(vocab_size, vocab_size)
        table /= table.sum(axis=1, keepdims=True)
        found["bigram"] = float(-np.log(table[validation[:-1], validation[1:]]).mean())
    return found
