"""The pictures of a block show its wiring both ways, and gradients at their true sizes."""

import numpy as np
import pytest

import handgrad
from handgrad.errors import UserError
from handgrad.lessons.pictures import block
from handgrad.model.config import ModelConfig
from tests.pictures import assert_good

PICTURES = {
    "drawing": block.drawing,
    "gradient_sizes": lambda: block.gradient_sizes({"a": np.array([0.5, 1.0])}),
    "gradient_map": lambda: block.gradient_map(
        {"blocks.0.up": np.ones(3), "blocks.1.up": np.full(3, 0.1), "embedding": np.ones(2)}
    ),
}


def boxes(figure):
    """The names in the boxes, from top to bottom, of the forward and of the backward."""
    named = sorted((t.get_position()[1], t.get_text()) for t in figure.axes[0].texts)
    forward = [name for _, name in named if name in ("norm", "attention", "feed-forward")]
    return forward, [name for _, name in named if name.endswith("\nbackward")]


@pytest.mark.parametrize(
    ("placement", "order"),
    [
        ("pre", ["norm", "attention", "norm", "feed-forward"]),
        ("post", ["attention", "norm", "feed-forward", "norm"]),
    ],
)
def test_backward_has_the_boxes_of_forward_in_the_same_places(placement, order):
    left, right = boxes(block.drawing(placement))
    assert left == order
    assert right == [f"{name}\nbackward" for name in order]


def test_where_forward_copies_backward_adds():
    for placement in block.WIRING:
        texts = [t for t in block.drawing(placement).axes[0].texts if t.get_text() in ("copy", "add")]
        forward = sorted((t.get_position()[1], t.get_text()) for t in texts if t.get_position()[0] < 5)
        backward = sorted((t.get_position()[1], t.get_text()) for t in texts if t.get_position()[0] > 5)
        assert [name for _, name in forward] == ["copy", "add", "copy", "add"]
        assert [(y, block.UNDONE[name]) for y, name in forward] == backward


def test_there_are_two_placements_of_the_norms():
    with pytest.raises(UserError, match="placement"):
        block.drawing("middle")


def test_sizes_on_the_way_back_are_drawn_as_they_are():
    sizes = {"pre": [1.1, 1.0, 1.0], "bare": [1e-12, 1e-6, 1.0]}
    axes = block.gradient_sizes(sizes).axes[0]
    for (name, curve), line in zip(sizes.items(), axes.get_lines(), strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_ydata(), curve)
    assert axes.get_yscale() == "log"
    assert axes.get_ylim() == block.SIZES


def test_the_map_has_a_row_a_kind_and_a_column_a_block_and_shows_that_key_biases_have_no_gradient(rng):
    config = ModelConfig(vocab_size=9, context_length=6, n_layers=3, n_heads=2, d_model=8)
    token_ids, targets = rng.integers(9, size=(2, 2, 6))
    _, gradients = handgrad.loss_and_gradients(
        config, handgrad.init(config, 0, np.float64), token_ids, targets
    )
    axes = block.gradient_map(gradients).axes[0]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    texts = np.array([text.get_text() for text in axes.texts]).reshape(len(rows), 3)
    assert set(texts[rows.index("attention.key.bias")]) == {"0"}
    row = rows.index("feed_forward.up.weight")
    expected = np.sqrt(np.mean(gradients["blocks.1.feed_forward.up.weight"] ** 2))
    assert float(texts[row][1]) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)
