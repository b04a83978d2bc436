"""Text that comes in pieces, for a terminal: broken between words where a line ends."""

import re

CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160))} | {9: "\t", 10: "\n"}
"""A model's text must not command the terminal."""


class WordWrap:
    """Lines of at most `width` characters, but for words that are longer. The last word waits for its end."""

    def __init__(self, width: int):
        self._width, self._column, self._blanks, self._word = width, 0, "", ""

    def add(self, text: str) -> str:
        """More text: what can be shown of it by now."""
        parts = re.findall(r"\n|[^\S\n]+|\S+", text.translate(CONTROL))
        return "".join(map(self._part, parts))

    def rest(self) -> str:
        """The last word, as the text is over."""
        shown = self._blanks + self._word
        self._column += len(shown)
        if self._word and self._blanks and self._column > self._width:
            shown, self._column = "\n" + self._word, len(self._word)
        self._blanks = self._word = ""
        return shown

    def _part(self, part: str) -> str:
        if not part.isspace():
            self._word += part
            return ""
        shown = self.rest() if self._word or part == "\n" else ""
        if part == "\n":
            self._column = 0
            return shown + part
        self._blanks += part
        return shown
