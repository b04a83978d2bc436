"""Stop strings: text that may be the beginning of one is held back until it is decided."""

from collections.abc import Sequence


class Held:
    """The end of a text that is not decided yet. Where tokens end changes nothing about what is found."""

    def __init__(self, stops: Sequence[str]):
        self._stops, self._text = tuple(stops), ""

    def add(self, text: str) -> tuple[str, bool]:
        """More of the text: what of it is decided, and whether a stop string is complete.

        What stands before the stop string that is complete first is decided then, and nothing more.
        """
        self._text += text
        ends = [(self._text.find(stop) + len(stop), -len(stop)) for stop in self._stops if stop in self._text]
        if ends:
            end, length = min(ends)
            return self._take(end + length), True
        return self._take(len(self._text) - self._n_undecided()), False

    def rest(self) -> str:
        """What was held back, as the text is over."""
        return self._take(len(self._text))

    def _take(self, n: int) -> str:
        taken, self._text = self._text[:n], self._text[n:]
        return taken

    def _n_undecided(self) -> int:
        """The length of the longest end of the text that a stop string begins with."""
        longest = max(map(len, self._stops), default=1) - 1
        for n in range(min(longest, len(self._text)), 0, -1):
            if any(stop.startswith(self._text[-n:]) for stop in self._stops):
                return n
        return 0
