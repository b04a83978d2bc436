"""Pictures with knobs to turn: sliders in Jupyter; on a page without Python, pictures drawn beforehand.

    knobs.turn(draw, learning_rate=[0.01, 0.1, 0.5], method=["plain", "adam"])

`draw` takes the knobs by name and returns a picture.
"""

import base64
import html
import itertools
import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ipywidgets import VBox

ON_A_PAGE = "HANDGRAD_LESSONS_ON_A_PAGE"
"""The environment variable that is set where nobody turns knobs: a page is made, or a lesson is only run."""


class _Drawn(Protocol):
    """A picture that a notebook shows."""

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]: ...


def turn(draw: Callable[..., _Drawn], **knobs: Sequence[float | str]) -> "_Page | VBox":
    """Show `draw(**values)` and one knob for each argument; a knob starts at the first of its values."""
    if os.environ.get(ON_A_PAGE):
        return _Page(draw, knobs)
    import ipywidgets
    from IPython.display import clear_output, display

    sliders = {
        name: ipywidgets.SelectionSlider(
            options=[(_label(value), value) for value in values],
            value=values[0],
            description=name.replace("_", " "),
            continuous_update=False,
            style={"description_width": "initial"},
            layout={"width": "30em"},
        )
        for name, values in knobs.items()
    }
    shown = ipywidgets.Output()

    def show(_: object = None) -> None:
        with shown:
            clear_output(wait=True)
            display(draw(**{name: slider.value for name, slider in sliders.items()}))

    for slider in sliders.values():
        slider.observe(show, "value")
    show()
    return ipywidgets.VBox([*sliders.values(), shown])


class _Page:
    """The pictures of all settings, and a script that shows the picture for the present setting."""

    def __init__(self, draw: Callable[..., _Drawn], knobs: dict[str, Sequence[float | str]]):
        self.knobs = knobs
        choices = itertools.product(*knobs.values())
        self.pictures = [draw(**dict(zip(knobs, values, strict=True))) for values in choices]

    def __repr__(self) -> str:
        names = ", ".join(name.replace("_", " ") for name in self.knobs)
        return f"{len(self.pictures)} pictures, one for every setting of {names}"

    def _repr_html_(self) -> str:
        rows, labels = "", []
        for name, values in self.knobs.items():
            labels.append([_label(value) for value in values])
            said = name.replace("_", " ")
            rows += (
                f'<label>{said} <input type="range" min="0" max="{len(values) - 1}" value="0" '
                f'aria-label="{said}"><output></output></label>'
            )
        settings = itertools.product(*labels)
        images = "".join(
            _image(
                picture, ", ".join(f"{name} {value}" for name, value in zip(self.knobs, values, strict=True))
            )
            for picture, values in zip(self.pictures, settings, strict=True)
        )
        said = html.escape(json.dumps(labels))
        return (
            f"<div class='knobs' data-labels='{said}'><div class='knobs-rows'>{rows}</div>{images}"
            f"<script>{_SCRIPT}</script></div>"
        )


_SCRIPT = """
(() => {
  const box = document.currentScript.parentElement;
  const labels = JSON.parse(box.dataset.labels);
  const inputs = [...box.querySelectorAll("input")], images = [...box.querySelectorAll("img")];
  const show = () => {
    let number = 0;
    inputs.forEach((input, i) => {
      number = number * labels[i].length + Number(input.value);
      input.nextElementSibling.textContent = labels[i][input.value];
    });
    images.forEach((image, i) => { image.hidden = i !== number; });
  };
  inputs.forEach((input) => input.addEventListener("input", show));
  show();
})();
"""


def _image(picture: _Drawn, setting: str) -> str:
    png, size = picture._repr_png_()
    data = base64.b64encode(png).decode()
    alt = html.escape(f"{size.get('alt') or 'A picture'}; {setting}".replace("_", " "))
    return f'<img hidden alt="{alt}" width="{size["width"]}" src="data:image/png;base64,{data}">'


def _label(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
