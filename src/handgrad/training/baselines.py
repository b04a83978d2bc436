r"""Losses to compare with, in nats a token: those of models that know little, and of a compressor.

Uniform: all of V tokens are equally likely, $\log V$. An n-gram model (unigram, bigram, trigram: n = 1, 2, 3)
predicts the token $w$ from the $n-1$ tokens $h$ before it:

$$p_n(w\mid h) = \frac{c(hw) + t(h)\,p_{n-1}(w\mid h')}{c(h) + t(h)},\qquad p_0(w) = \frac1V$$

$c$ counts in the training text, $t(h)$ is the number of different tokens that follow $h$ there, and $h'$ is
$h$ without its oldest token. A context that never occurred leaves all to the shorter one. This is Witten &
Bell's smoothing ("The zero-frequency problem", IEEE Transactions on Information Theory 37, 1991),
interpolated as in Chen & Goodman, "An empirical study of smoothing techniques for language modeling" (Harvard
TR-10-98, 1998). It has no number to choose. Losses are measured on the validation text, each token after
those before it.

xz, Python's `lzma`: what the validation text adds to the compressed training text, in bits a byte of it:

$$8\,\frac{C(\text{training}+\text{validation}) - C(\text{training})}{\text{bytes of validation}}$$

It finds repetitions of any length, which no n-gram does.

Long texts are measured on their tokens nearest to where validation begins: time and memory are bounded.
"""

import lzma

import numpy as np

from handgrad.shapes import Float, Int

N_GRAMS = ("unigram", "bigram", "trigram")
NAMES = ("uniform", *N_GRAMS, "xz")
TRAINING_TOKENS, VALIDATION_TOKENS = 1 << 22, 1 << 20
"""The most tokens that n-grams are counted in, and measured on."""
TRAINING_BYTES, VALIDATION_BYTES = 1 << 20, 1 << 18
"""The most bytes that xz reads: it compresses two megabytes a second."""
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": lzma.PRESET_DEFAULT}]


def losses(train: np.ndarray, validation: np.ndarray, vocab_size: int) -> dict[str, float]:
    """The validation losses of the uniform and the n-gram models by name, in nats a token."""
    train = np.asarray(train[-TRAINING_TOKENS:]).astype(np.int64)
    longest = len(N_GRAMS)
    before = train[1 - longest :]
    text = np.concatenate([before, np.asarray(validation[:VALIDATION_TOKENS]).astype(np.int64)])
    asked, times = np.unique(_grams(text, min(longest, len(before) + 1), vocab_size), return_counts=True)
    found = {"uniform": float(np.log(vocab_size))}
    p = np.full(len(asked), 1.0 / vocab_size)
    for n, name in enumerate(N_GRAMS, start=1):
        p = _interpolated(p, asked % vocab_size**n, _grams(train, n, vocab_size), vocab_size)
        found[name] = float(-(times * np.log(p)).sum() / times.sum())
    return found


def xz(train: bytes, validation: bytes) -> float:
    """What xz adds to the compressed training text for the validation text, in bits a byte of it."""
    train, validation = train[-TRAINING_BYTES:], validation[:VALIDATION_BYTES]
    return 8.0 * max(0, _compressed(train + validation) - _compressed(train)) / len(validation)


def _compressed(text: bytes) -> int:
    return len(lzma.compress(text, lzma.FORMAT_RAW, filters=FILTERS))


def _grams(tokens: Int[np.ndarray, " N"], n: int, vocab_size: int) -> Int[np.ndarray, " M"]:
    """Each n neighbouring tokens as one number, the newest token its last digit in base `vocab_size`."""
    n_grams = max(0, len(tokens) - n + 1)
    grams = np.zeros(n_grams, np.int64)
    for i in range(n):
        grams = grams * vocab_size + tokens[i : i + n_grams]
    return grams


def _interpolated(
    shorter: Float[np.ndarray, " Q"],
    asked: Int[np.ndarray, " Q"],
    train: Int[np.ndarray, " M"],
    vocab_size: int,
) -> Float[np.ndarray, " Q"]:
    """p_n of the n-grams `asked`, given p_{n-1} of them and the training text's n-grams."""
    if not len(train):
        return shorter
    grams, counts = np.unique(train, return_counts=True)
    first = np.flatnonzero(np.diff(grams // vocab_size, prepend=-1))  # of each context
    contexts = grams[first] // vocab_size
    occurrences = _looked_up(contexts, np.add.reduceat(counts, first), asked // vocab_size)
    followers = _looked_up(contexts, np.diff(first, append=len(grams)), asked // vocab_size)
    share = _looked_up(grams, counts, asked) + followers * shorter
    return np.where(occurrences > 0, share / np.maximum(occurrences + followers, 1), shorter)


def _looked_up(
    keys: Int[np.ndarray, " K"], values: Int[np.ndarray, " K"], asked: Int[np.ndarray, " Q"]
) -> Int[np.ndarray, " Q"]:
    """The value of each key that is asked for; `keys` are sorted. Unknown ones have zero."""
    places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[places] == asked, values[places], 0)
