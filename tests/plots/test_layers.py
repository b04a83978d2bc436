"""What a run did to its layers."""

import numpy as np
import pytest

from handgrad.plots import layers
from handgrad.plots.layers import Diagnosed
from tests.pictures import assert_good, matrices


def found(n_layers=2, n_heads=2, n=3, *, tied=False):
    rng = np.random.default_rng(0)
    blocks = [f"blocks.{i}.{part}" for i in range(n_layers) for part in ("attention", "feed_forward")]
    parts = ["embedding", *blocks, *([] if tied else ["head"])]
    norms, ratios = ({part: rng.lognormal(size=n) * size for part in parts} for size in (1.0, 1e-3))
    of_layers = rng.uniform(0.1, 1.0, size=(3, n, n_layers))
    entropies = rng.uniform(size=(n, n_layers, n_heads))
    return Diagnosed(100.0 * np.arange(1, n + 1), norms, ratios, entropies, *of_layers[:2])


@pytest.mark.parametrize(
    "one",
    [found(4, 4, 8), found(12, 12, 6, tied=True), found(1, 1, 1)],
    ids=["4 layers", "12 layers", "1 layer"],
)
def test_it_is_laid_out_without_overlap_in_the_colours_of_its_theme(one):
    assert_good(lambda: layers.draw(one, "steps"))


def test_maps_have_a_row_for_each_part_in_order_and_a_column_for_each_diagnosis():
    one = found()
    figure = layers.draw(one, "steps")
    norms, ratios, dead, stream = matrices(figure)
    np.testing.assert_array_equal(norms, np.array(list(one.gradient_norms.values())))
    np.testing.assert_array_equal(ratios, np.array(list(one.update_ratios.values())))
    np.testing.assert_array_equal(dead, one.dead_units.T)
    np.testing.assert_array_equal(stream, one.residual_rms.T)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "embedding", "1 attention", "1 feed-forward", "2 attention", "2 feed-forward", "head"
    ]  # fmt: skip
    assert [label.get_text() for label in axes.get_xticklabels()] == ["100", "200", "300"]


def test_a_ratio_of_a_thousandth_has_the_papers_colour_and_larger_ones_another_than_smaller():
    (image,) = layers.draw(found(), "steps").axes[1].get_images()
    smaller, usual, larger = image.cmap(image.norm(np.array([1e-4, 1e-3, 1e-2])))
    np.testing.assert_allclose(usual[:3], 1.0, atol=0.02)
    assert smaller[2] > smaller[0] + 0.2  # blue
    assert larger[0] > larger[2] + 0.2  # orange


def test_each_layer_has_a_panel_with_a_line_for_each_head():
    one = found(n_layers=3, n_heads=4)
    figure = layers.draw(one, "steps")
    panels = [axes for axes in figure.axes if "layer" in axes.get_title(loc="left") and axes.get_lines()]
    assert len(panels) == 3
    for layer, axes in enumerate(panels):
        drawn = [line.get_ydata() for line in axes.get_lines()]
        np.testing.assert_array_equal(drawn, one.entropies[:, layer].T)


def test_what_gets_no_gradient_is_hatched_and_the_rest_has_its_scale():
    one = found()
    one.gradient_norms["head"][:] = 0.0
    figure = layers.draw(one, "steps")
    norms = matrices(figure)[0]
    assert norms.mask.sum() == 3
    assert figure.axes[0].patches
    nothing = one._replace(gradient_norms={part: 0 * norm for part, norm in one.gradient_norms.items()})
    assert matrices(layers.draw(nothing, "steps"))[0].mask.all()
