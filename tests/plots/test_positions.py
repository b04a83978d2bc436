"""The pictures of embeddings and positions show what was computed: rows of tables, waves, and turns."""

import numpy as np
import pytest

from handgrad.ops import embedding, rope, sinusoidal_position
from handgrad.plots import positions as plots
from tests.pictures import hands, matrices


def test_a_lookup_is_the_product_that_the_op_avoids():
    one_hot, table, rows = matrices(plots.lookup())
    y, _ = embedding.forward(plots.TABLE, plots.TOKEN_IDS)
    np.testing.assert_array_equal(one_hot.sum(axis=1), 1)
    np.testing.assert_array_equal(table, plots.TABLE)
    np.testing.assert_array_equal(rows, y)


def test_every_wave_is_a_row_of_the_map_above_it():
    figure = plots.sinusoid(50, 8, base=100.0, shown=(0, 3))
    (table,) = matrices(figure)[:1]
    np.testing.assert_array_equal(table.T, sinusoidal_position.table(50, 8, base=100.0))
    waves = [line.get_ydata() for axes in figure.axes for line in axes.get_lines()]
    np.testing.assert_array_equal(waves, table[[0, 3]])


def test_the_wavelength_that_is_written_is_where_the_wave_returns():
    assert "wavelength 62.8" in plots.sinusoid(20, 8, shown=(2,)).axes[1].texts[0].get_text()
    assert sinusoidal_position.table(1, 8, offset=63)[0, 2] == pytest.approx(0, abs=0.02)


def test_a_rotation_keeps_lengths_and_is_that_of_the_op(rng):
    x = rng.normal(size=8)
    before, after = hands(plots.rotation(x, position=5))
    np.testing.assert_array_equal(before.ravel(), x)
    np.testing.assert_array_equal(after.ravel(), rope.forward(x[None], offset=5)[0][0])
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), np.linalg.norm(before, axis=1))
