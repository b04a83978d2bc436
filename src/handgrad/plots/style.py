"""How every picture looks: one palette, one set of sizes, and figures that need no screen.

The colours are Okabe and Ito's ("Color universal design", 2008), which people with any kind of colour vision
can tell apart. Where colour carries meaning, a second sign does too, so that print in grey loses nothing.
"""

from typing import Any

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import Normal, Stroke

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#666666"

SERIES = (VERMILION, BLUE, GREEN, BLACK, PURPLE, ORANGE)
"""The colours of curves, in the order in which they are used."""

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
"""The dashes that go with `SERIES`."""

DEPTHS = LinearSegmentedColormap.from_list("depths", ["#6aa9d6", "#a9d0ea", "#dcecf6", "#fbfdfe"])
"""Heights of a surface as on a sea chart: the deeper, the darker; light enough to draw on."""

HALO = (Stroke(linewidth=3.6, foreground="white"), Normal())
"""White edges for a line, `path_effects=HALO`: it stands out from whatever it crosses."""

CONTOUR = "#8aa9bd"
"""Lines of equal height, and the mesh of a surface."""

RC: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 10,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": BLACK,
    "ytick.labelcolor": BLACK,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
}
"""Settings to draw under: `with matplotlib.rc_context(style.RC):`."""


def figure(width: float = 6.0, height: float = 4.0) -> Figure:
    """An empty white figure, in inches, whose parts make room for each other. Draw it under `RC`."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    return Figure(figsize=(width, height), dpi=150, layout=layout, facecolor="white")
