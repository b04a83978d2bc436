"""How every picture looks: one palette, one set of sizes, and figures that need no screen.

The colours are Okabe and Ito's ("Color universal design", 2008), which people with any kind of colour vision
can tell apart; dark paper takes the brighter ones. Where colour carries meaning, a second sign does too:
print in grey loses nothing.

    with style.drawing() as look:            # inside a function that draws: `look` has the colours
        figure = style.figure(6, 4)

    with style.theme("dark"):                # around it: on dark paper
        plots.descent.contours(...)
"""

import contextlib
import inspect
import io
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import matplotlib
from cycler import cycler
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import AbstractPathEffect, Normal, Stroke
from PIL import Image

from handgrad.errors import require_known

ORANGE, SKY, GREEN = "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
"""The dashes that go with a theme's series."""

DRAW = ("handgrad.plots.", "handgrad.lessons.pictures.")
"""The modules whose functions draw pictures."""
DOTS_PER_INCH = 150
N_COLOURS = 256
"""Colours of a picture in a notebook: a third of the bytes, and no visible difference."""


class Theme(NamedTuple):
    """The colours of a picture, by what they are for."""

    paper: str
    ink: str
    """Text, and what must stand out most."""
    quiet: str
    """Axes, and what may stay behind."""
    grid: str
    series: tuple[str, ...]
    """The colours of curves, in order."""
    background: str
    """The colour of a curve behind others."""
    depths: Colormap
    """Heights of a surface, darker where deeper, and quiet enough to draw on."""
    contour: str
    """Lines of equal height, and the mesh of a surface."""
    amounts: Colormap
    """Amounts, from the paper for nothing to dark for much."""
    signed: Colormap
    """Signed numbers, blue below zero and orange above; zero is the paper."""
    sides: tuple[str, str]
    """The pale grounds of two classes."""

    @property
    def halo(self) -> tuple[AbstractPathEffect, ...]:
        """Edges in the paper's colour, `path_effects=look.halo`: a line stands out from what it crosses."""
        return (Stroke(linewidth=3.6, foreground=self.paper), Normal())


def _colours(name: str, *colours: str) -> Colormap:
    return LinearSegmentedColormap.from_list(name, colours)


LIGHT = Theme(
    paper="#ffffff",
    ink="#000000",
    quiet="#666666",
    grid="#dddddd",
    series=(VERMILION, BLUE, GREEN, "#000000", PURPLE, ORANGE),
    background=SKY,
    depths=_colours("depths", "#6aa9d6", "#a9d0ea", "#dcecf6", "#fbfdfe"),
    contour="#8aa9bd",
    amounts=_colours("amounts", "#ffffff", "#bcdcf0", SKY, BLUE, "#00314d"),
    signed=_colours("signed", "#003a5c", BLUE, "#8cc4e6", "#ffffff", "#f3b08a", VERMILION, "#6b2f00"),
    sides=("#e3eff7", "#fbe9df"),
)
DARK = Theme(
    paper="#131416",
    ink="#eeeeee",
    quiet="#a0a0a0",
    grid="#3a3c40",
    series=("#ff9b52", SKY, "#3fd0a5", "#eeeeee", "#e39cc3", YELLOW),
    background="#2f6d92",
    depths=_colours("depths", "#0c1a26", "#143148", "#21506f", "#3a7699"),
    contour="#5d8aa6",
    amounts=_colours("amounts", "#131416", "#0a3f61", BLUE, SKY, "#d8effb"),
    signed=_colours("signed", "#bfe3f8", SKY, "#14496b", "#131416", "#7a3a0c", "#ff8a3c", "#ffd9bd"),
    sides=("#16293a", "#3b2313"),
)
THEMES = {"light": LIGHT, "dark": DARK}
_theme: ContextVar[Theme] = ContextVar("theme", default=LIGHT)


@contextlib.contextmanager
def theme(name: str) -> Iterator[None]:
    """Pictures made inside are on `light` or on `dark` paper."""
    require_known("theme", name, THEMES)
    token = _theme.set(THEMES[name])
    try:
        yield
    finally:
        _theme.reset(token)


def look() -> Theme:
    """The colours of the present theme."""
    return _theme.get()


@contextlib.contextmanager
def drawing() -> Iterator[Theme]:
    """The settings for drawing; yields the colours of the present theme."""
    look = _theme.get()
    with matplotlib.rc_context(_settings(look)):
        yield look


class Picture(Figure):
    """A figure that a notebook shows, sharp on any screen, without a drawing window behind it."""

    drawn_by = ""
    """What the function that drew it says of it."""

    @property
    def alt(self) -> str:
        """What is seen, for those who do not see it: what it shows, its axes, and the names of its curves."""
        words = [self.drawn_by.removesuffix(".")] if self.drawn_by else []
        for axes in self.axes:
            labels = [axes.get_xlabel(), axes.get_ylabel()]
            title = axes.get_title(loc="left") or axes.get_title()
            curves = [name for name in axes.get_legend_handles_labels()[1] if not name.startswith("_")]
            said = [title, " against ".join(filter(None, reversed(labels))), ", ".join(curves)]
            words += [": ".join(filter(None, said))] if any(said) else []
        return ". ".join(" ".join(part.replace("$", "").split()) for part in dict.fromkeys(words))

    def _ipython_display_(self) -> None:
        """Shows `_repr_png_`, also where pyplot has registered its own way for all figures."""
        from IPython.display import display

        png, size = self._repr_png_()
        display({"image/png": png, "text/plain": repr(self)}, metadata={"image/png": size}, raw=True)

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        drawn, packed = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png", dpi=DOTS_PER_INCH)
        picture = Image.open(drawn).convert("RGB")
        picture.quantize(N_COLOURS, dither=Image.Dither.NONE).save(packed, format="png", optimize=True)
        width, height = self.get_size_inches() * 100
        return packed.getvalue(), {"width": int(width), "height": int(height), "alt": self.alt}


def figure(width: float = 6.0, height: float = 4.0) -> Picture:
    """An empty figure, in inches, whose parts make room for each other; make it inside `drawing`."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    paper = _theme.get().paper
    made = Picture(figsize=(width, height), dpi=DOTS_PER_INCH, layout=layout, facecolor=paper)
    made.drawn_by = _caller()
    return made


def _caller() -> str:
    """The first paragraph of the docstring of the public function that is drawing; empty where none is."""
    frame, doc = inspect.currentframe(), ""
    while frame is not None:
        name, module = frame.f_code.co_name, frame.f_globals.get("__name__", "")
        if module != __name__ and not name.startswith("_") and module.startswith(DRAW):
            function = frame.f_globals.get(name)
            doc = (inspect.getdoc(function) if inspect.isfunction(function) else None) or doc
        frame = frame.f_back
    return doc.split("\n\n")[0].replace("\n", " ")


def _settings(look: Theme) -> dict[str, Any]:
    return {
        "font.size": 10,
        "text.color": look.ink,
        "figure.facecolor": look.paper,
        "savefig.facecolor": look.paper,
        "axes.facecolor": look.paper,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.labelsize": 10,
        "axes.labelcolor": look.ink,
        "axes.edgecolor": look.quiet,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=list(look.series)),
        "xtick.color": look.quiet,
        "ytick.color": look.quiet,
        "xtick.labelcolor": look.ink,
        "ytick.labelcolor": look.ink,
        "grid.color": look.grid,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "lines.linewidth": 1.8,
    }
