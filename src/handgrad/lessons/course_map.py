"""A map of the course: the model as a drawing, each part with the lesson that derives it, and where one is.

Scalable, and in the colours of the page that it stands on.
"""

import html
from typing import NamedTuple

from handgrad.lessons import catalog

WIDTH, HEIGHT, TALL = 760, 236, 30
"""Of the drawing, and of a box."""


class Box(NamedTuple):
    """A part of the model, and the topics of the lessons on it: the lesson's file is `NN_topic.py`."""

    x: int
    y: int
    width: int
    name: str
    topics: tuple[str, ...]


BOXES = (
    Box(8, 40, 66, "tokens", ("tokenization",)),
    Box(94, 40, 116, "embedding, positions", ("embeddings_and_positions",)),
    Box(238, 40, 48, "norm", ("norms_and_residuals",)),
    Box(298, 40, 78, "attention", ("attention",)),
    Box(298, 74, 78, "heads", ("many_heads",)),
    Box(420, 40, 48, "norm", ("norms_and_residuals",)),
    Box(480, 40, 90, "feed-forward", ("the_transformer",)),
    Box(480, 74, 90, "activation", ("activations",)),
    Box(628, 40, 48, "norm", ("norms_and_residuals",)),
    Box(688, 40, 64, "loss", ("losses",)),
    Box(420, 136, 90, "chain rule", ("networks", "tape")),
    Box(298, 136, 78, "slopes", ("slopes",)),
    Box(94, 136, 116, "descent, training", ("descent", "training")),
)
PLUSES = ((398, 55), (596, 55))


def here(number: int | None = None) -> "Map":
    """The map, with the lesson of that number marked."""
    return Map(number)


class Map:
    """What a notebook shows of `here`."""

    def __init__(self, number: int | None):
        self._lessons = catalog.lessons()
        self._here = number

    def __repr__(self) -> str:
        marked = [lesson for lesson in self._lessons if lesson.number == self._here]
        return f"The course; you are at {marked[0].title}" if marked else "The course"

    def _repr_html_(self) -> str:
        return self.svg()

    def svg(self) -> str:
        """The drawing, as an element of a page."""
        drawn = {topic for box in BOXES for topic in box.topics}
        around = [lesson for lesson in self._lessons if _topic(lesson) not in drawn]
        parts = [
            *(_line(*ends) for ends in _LINES),
            f'<rect x="226" y="22" width="384" height="92" rx="10" {_FRAME}/>',
            _words(236, 15, "block, several times", "start"),
            _words(8, 128, "back: the gradient of every weight", "start"),
            *(f'<circle cx="{x}" cy="{y}" r="9" {_FRAME}/>' + _words(x, y + 4, "+") for x, y in PLUSES),
            *(self._box(box) for box in BOXES),
            _words(8, 198, "and around it", "start"),
            *self._pills(around),
        ]
        title = f"The parts of a transformer, with the lessons that derive them. {self!r}."
        return (
            f'<svg class="course-map" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
            f'aria-label="{html.escape(title)}" style="max-width: 100%; height: auto; font: 12px sans-serif">'
            f"{''.join(parts)}</svg>"
        )

    def _box(self, box: Box) -> str:
        lessons = [lesson for lesson in self._lessons if _topic(lesson) in box.topics]
        numbers = ", ".join(str(lesson.number) for lesson in lessons)
        marked = self._here in [lesson.number for lesson in lessons]
        middle = box.x + box.width / 2
        return (
            f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{TALL}" rx="4" {_look(marked)}/>'
            + _words(middle, box.y + 13, box.name, marked=marked)
            + _words(middle, box.y + 26, numbers, size=10, marked=marked)
        )

    def _pills(self, lessons: list[catalog.Lesson]) -> list[str]:
        """The lessons that are no part of the model, in a row."""
        each = (WIDTH - 16) / max(1, len(lessons))
        pills = []
        for i, lesson in enumerate(lessons):
            marked = lesson.number == self._here
            x = 8 + i * each
            name = f"{lesson.number} {_topic(lesson).replace('_', ' ')}"
            pills.append(
                f'<rect x="{x:.0f}" y="206" width="{each - 6:.0f}" height="24" rx="12" {_look(marked)}/>'
                + _words(x + (each - 6) / 2, 222, name, size=_size(name, each - 6), marked=marked)
            )
        return pills


def _topic(lesson: catalog.Lesson) -> str:
    return lesson.name.partition("_")[2]


_FRAME = 'fill="none" stroke="currentColor" stroke-opacity="0.45"'
_ACCENT = "#0072B2"
_LINES = ((74, 55, 94, 55), (210, 55, 238, 55), (286, 55, 298, 55), (376, 55, 389, 55), (407, 55, 420, 55),
          (468, 55, 480, 55), (570, 55, 587, 55), (605, 55, 628, 55), (676, 55, 688, 55), (720, 70, 720, 151),
          (720, 151, 510, 151), (420, 151, 376, 151), (298, 151, 210, 151))  # fmt: skip


def _line(x1: int, y1: int, x2: int, y2: int) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="currentColor" stroke-opacity="0.6"/>'


def _look(marked: bool) -> str:
    """Of a box: filled where one is."""
    return f'fill="{_ACCENT}" stroke="{_ACCENT}"' if marked else _FRAME


def _size(name: str, width: float) -> int:
    """Of letters that are about half as wide as high, with room at both ends."""
    return min(10, int((width - 6) / (0.52 * len(name))))


def _words(
    x: float, y: float, text: str, anchor: str = "middle", *, size: int = 12, marked: bool = False
) -> str:
    colour = "white" if marked else "currentColor"
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">'
        f"{html.escape(text)}</text>"
    )
