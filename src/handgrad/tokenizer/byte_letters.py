"""Bytes as GPT-2's vocabularies write them: each as one printable character.

Printable ones stand for themselves, the others for the characters from U+0100 on, in order. Source: Radford
et al., "Language Models are Unsupervised Multitask Learners" (2019), and the code published with it.
"""

PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
LETTERS = {byte: chr(byte) for byte in PRINTABLE} | {byte: chr(256 + i) for i, byte in enumerate(OTHERS)}
BYTES = {letter: byte for byte, letter in LETTERS.items()}


def as_letters(data: bytes) -> str:
    """One character a byte."""
    return "".join(LETTERS[byte] for byte in data)


def as_bytes(letters: str) -> bytes:
    """What `as_letters` wrote; `KeyError` where a character is none of its."""
    return bytes(BYTES[letter] for letter in letters)
