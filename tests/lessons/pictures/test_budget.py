"""The pictures of what a model costs agree with the counts."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from handgrad.lessons.pictures import budget
from handgrad.model.config import PRESETS
from handgrad.model.count import count
from handgrad.plots import style
from tests.pictures import assert_good

UNTIED = PRESETS["gpt2"].replace(tied=False)
PICTURES = {
    "parameters": lambda: budget.parameters(UNTIED),
    "flops": lambda: budget.flops(PRESETS["llama"]),
    "memory": lambda: budget.memory(PRESETS["baby"], 1e6),
}


@pytest.mark.parametrize("config", [*PRESETS.values(), UNTIED], ids=[*PRESETS, "untied"])
def test_areas_are_the_shares_of_the_weights_and_fill_the_picture(config):
    kinds = budget.weights_by_kind(config)
    assert sum(kinds.values()) == count(config).parameters
    axes = budget.parameters(config).axes[0]
    areas = {}
    for patch in axes.patches:
        assert isinstance(patch, Rectangle)
        colour = tuple(patch.get_facecolor()[:3])
        areas[colour] = areas.get(colour, 0.0) + patch.get_width() * patch.get_height()
    seen = sum(kinds.values()) - kinds["norms and biases"]
    for kind, number in budget.KINDS.items():
        if kind != "norms and biases" and kinds[kind]:
            assert areas[to_rgb(style.LIGHT.series[number])] == pytest.approx(kinds[kind] / seen)
    assert sum(areas.values()) == pytest.approx(1.0)
    assert f"{count(config).parameters:,} parameters" in axes.get_xlabel()


@pytest.mark.parametrize("name", PRESETS)
def test_the_shares_of_arithmetic_are_those_that_are_counted(name):
    config = PRESETS[name]
    cost = count(config)
    at = [config.context_length / 2, config.context_length, config.context_length * 2]
    areas = budget.flops(config, at).axes[0].collections
    bottom_of_scores = areas[-1].get_paths()[0].vertices
    share = bottom_of_scores[np.isclose(bottom_of_scores[:, 0], config.context_length), 1].min()
    assert share == pytest.approx(6 * cost.matrix_parameters / cost.training_flops_per_token)


def test_memory_is_sixteen_bytes_a_weight_and_the_activations_of_every_window():
    config = PRESETS["nano"]
    axes = budget.memory(config, 2.5e6, range(1, 9)).axes[0]
    top = max(area.get_paths()[0].vertices[:, 1].max() for area in axes.collections)
    assert top == pytest.approx((count(config).training_bytes + 8 * 2.5e6) / 1e6)
    assert axes.get_ylabel() == "memory (MB)"
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["activations", "moments (two)", "gradients", "weights"]  # from the top, as the areas


def test_large_memory_is_told_in_gigabytes():
    assert budget.memory(PRESETS["gpt2"], 1e9).axes[0].get_ylabel() == "memory (GB)"


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)
