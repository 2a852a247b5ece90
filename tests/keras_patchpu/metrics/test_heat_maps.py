import numpy as np
import pytest

from keras_patchpu.metrics import (
    AttentionHeat,
    ScoreMapHeat,
    attention_heatmap,
    heat_maps,
    heat_pixels,
    localization,
)

# A patch of the upper left quarter, one of the middle, the whole image.
PATCHES = np.array([[0, 0, 0.5, 0.5], [0.25, 0.25, 0.75, 0.75], [0, 0, 1, 1]])


def test_attention_on_cells_by_hand():
    heat = AttentionHeat([[[0.5, 0.3, 0.2]]], PATCHES, (8, 4))
    np.testing.assert_allclose(heat.ys, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(heat.xs, [0, 0.25, 0.5, 0.75, 1])
    assert heat.shape == (1, 1)
    peaks, masses = heat([0], [0])
    a, b, c = 0.5, 0.3, 0.2
    expected = [
        [a + c, a + c, c, c],
        [a + c, a + b + c, b + c, c],
        [c, b + c, b + c, c],
        [c, c, c, c],
    ]
    np.testing.assert_allclose(peaks[0], expected, rtol=1e-6)
    # Each cell is a sixteenth of the image, a quarter of the small patches.
    a, b, c = 0.5 / 4, 0.3 / 4, 0.2 / 16
    assert masses[0, 1, 1] == pytest.approx(a + b + c)
    assert masses[0, 0, 0] == pytest.approx(a + c)
    assert masses.sum() == pytest.approx(1.0)


def test_attention_on_cells_of_two_sizes():
    heat = AttentionHeat([[[0.6, 0.4]]], [[0, 0, 1, 0.25], [0, 0, 1, 1]], (4, 4))
    np.testing.assert_allclose(heat.xs, [0, 0.25, 1])
    _, masses = heat([0], [0])
    np.testing.assert_allclose(masses[0], [[0.6 + 0.1, 0.3]], rtol=1e-6)


# Two levels: the four quarters in reading order, and one patch of the middle.
LEVELS = np.array(
    [[0, 0, 0.5, 0.5], [0, 0.5, 0.5, 1], [0.5, 0, 1, 0.5], [0.5, 0.5, 1, 1], [0, 0.25, 1, 0.75]]
)


def test_levels_multiplied_by_hand():
    attention = np.array([[[0.4, 0.2, 0.1, 0.1, 0.2]]])
    heat = AttentionHeat(attention, LEVELS, (8, 8), combine="product")
    np.testing.assert_allclose(heat.xs, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(heat.ys, [0, 0.5, 1])
    peaks, masses = heat([0], [0])
    # The quarters by their mean 0.2; the one patch of the other level is even.
    expected = [[2, 2, 1, 1], [0.5, 0.5, 0.5, 0.5]]
    np.testing.assert_allclose(peaks[0], expected, rtol=1e-6)
    np.testing.assert_allclose(masses[0], peaks[0] / 8, rtol=1e-6)

    # A second patch of that level, right of the first: what neither covers stays as it was.
    levels = np.concatenate([LEVELS, [[0, 0.5, 1, 1]]])
    attention = np.array([[[0.4, 0.2, 0.1, 0.1, 0.15, 0.05]]])
    heat = AttentionHeat(attention, levels, (8, 8), combine="product")
    # Columns of it: none, 0.15, 0.2, 0.05; their mean 0.4 / 3.
    factors = np.array([1, 0.15 * 7.5, 0.2 * 7.5, 0.05 * 7.5])
    np.testing.assert_allclose(heat([0], [0])[0][0], expected * factors, rtol=1e-5)
    # Any weights will do, and only those within a level count.
    other = AttentionHeat(attention * [30, 30, 30, 30, 7, 7], levels, (8, 8), combine="product")
    np.testing.assert_allclose(other([0], [0]), heat([0], [0]), rtol=1e-5)


def test_a_level_without_attention_is_even_and_none_at_all_is_no_heat():
    attention = np.array([[[0, 0, 0, 0, 0.2], [0.4, 0.2, 0.1, 0.1, 0], [0, 0, 0, 0, 0]]])
    heat = AttentionHeat(attention, LEVELS, (8, 8), combine="product")
    peaks, _ = heat([0, 0, 0], [0, 1, 2])
    np.testing.assert_allclose(peaks[0], 1.0)
    np.testing.assert_allclose(peaks[1], [[2, 2, 1, 1], [0.5, 0.5, 0.5, 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(peaks[2], 0)


def test_pixels_are_those_of_attention_heatmap():
    attention = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 3))
    heat = AttentionHeat(attention, PATCHES, (13, 10))  # edges are rounded
    pixels = heat_pixels(heat, [1, 0], [2, 1], (13, 10))
    expected = attention_heatmap(attention[[1, 0], [2, 1]], PATCHES, (13, 10), fill="same")
    np.testing.assert_allclose(pixels, expected, rtol=1e-6)


def test_maps_are_resized_with_half_pixel_centres():
    maps = np.array([[0.0, 4.0], [8.0, 12.0]])[None, :, :, None]
    heat = ScoreMapHeat(maps, (4, 4))
    peaks, masses = heat([0], [0])
    steps = np.array([0, 1, 3, 4])  # at 1/4, 3/4 between the centres; held at the edges
    np.testing.assert_allclose(peaks[0], steps + 2.0 * steps[:, None])
    np.testing.assert_array_equal(masses, peaks)
    np.testing.assert_allclose(heat.ys, [0, 0.25, 0.5, 0.75, 1])


def test_maps_of_the_size_asked_for_stay_as_they_are():
    maps = np.random.default_rng(0).random((2, 3, 5, 4))
    heat = ScoreMapHeat(maps, (3, 5))
    assert heat.shape == (2, 4)
    peaks, _ = heat([1, 0], [3, 2])
    np.testing.assert_allclose(peaks, [maps[1, :, :, 3], maps[0, :, :, 2]], rtol=1e-6)


def test_an_index_of_those_that_are_kept():
    attention = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 3))
    index = np.array([[-1, 1, -1], [0, -1, -1]])
    kept = AttentionHeat(attention[[1, 0], [0, 1]], PATCHES, (8, 8), index)
    whole = AttentionHeat(attention, PATCHES, (8, 8))
    assert kept.shape == (2, 3)
    for found, expected in zip(kept([0, 1], [1, 0]), whole([0, 1], [1, 0])):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="1 that it does not"):
        kept([0, 0], [1, 2])
    maps = np.random.default_rng(0).random((2, 4, 4))
    peaks, _ = ScoreMapHeat(maps, (4, 4), index)([1], [0])
    np.testing.assert_allclose(peaks[0], maps[0], rtol=1e-6)


def test_never_all_maps_at_once(monkeypatch):
    monkeypatch.setattr(heat_maps, "_CELLS_AT_ONCE", 3 * 16)
    maps = np.random.default_rng(0).random((7, 4, 4, 2))
    heat, sizes = ScoreMapHeat(maps, (4, 4)), []

    class Counted:
        shape, ys, xs = heat.shape, heat.ys, heat.xs

        def __call__(self, rows, columns):
            sizes.append(len(rows))
            return heat(rows, columns)

    boxes = np.tile([0.1, 0.2, 0.7, 0.6], (7, 2, 1))
    result = localization(Counted(), np.ones((7, 2)), boxes)
    assert sizes == [3, 3, 3, 3, 2]
    monkeypatch.undo()
    assert result["per_label"] == localization(heat, np.ones((7, 2)), boxes)["per_label"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AttentionHeat(np.ones((1, 2)), PATCHES, (4, 4)), r"\(N, L, P\).*\(1, 2\)"),
        (lambda: AttentionHeat(np.ones((1, 2, 5)), PATCHES, (4, 4)), r"\(1, 2, 5\), \(3, 4\)"),
        (
            lambda: AttentionHeat(np.ones((1, 2, 3)), PATCHES, (4, 4), combine="mean"),
            "`combine`.*'product'.*mean",
        ),
        (lambda: ScoreMapHeat(np.ones((2, 2, 1)), (4, 4)), r"\(N, h, w, L\).*\(2, 2, 1\)"),
        (lambda: ScoreMapHeat(-np.ones((1, 2, 2, 1)), (4, 4)), "not negative.*-1"),
        (lambda: ScoreMapHeat(np.full((1, 2, 2, 1), np.nan), (4, 4)), "finite.*nan"),
        (lambda: ScoreMapHeat(np.full((1, 2, 2, 1), np.inf), (4, 4)), "finite.*inf"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
