import numpy as np

from keras_patchpu.metrics.heat_grid import heat_grid, pixels_of_cells


def test_cells_by_hand():
    # The left 3 of 8 pixels (0.4 * 8, rounded), the right half, and less than a pixel.
    grid = heat_grid([[0, 0, 1, 0.4], [0.5, 0.5, 1, 1], [0.99, 0.99, 1, 1]], (4, 8))
    assert grid.ys.tolist() == [0, 2, 3, 4] and grid.xs.tolist() == [0, 3, 4, 7, 8]
    assert grid.areas.tolist() == [[6, 2, 6, 2], [3, 1, 3, 1], [3, 1, 3, 1]]
    assert grid.covered.tolist() == [
        [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]],
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]],
    ]
    np.testing.assert_allclose(grid.shared[0, :, 0], [0.5, 0.25, 0.25])
    np.testing.assert_allclose(grid.shared[1, 1:, 2:], [[0.375, 0.125]] * 2)
    np.testing.assert_allclose(grid.shared.sum(axis=(1, 2)), 1)


def test_cells_as_pixels():
    cells = np.array([[[1, 2], [3, 4]]])
    pixels = pixels_of_cells(cells, [0, 1, 3], [0, 2, 3])
    assert pixels.tolist() == [[[1, 1, 2], [3, 3, 4], [3, 3, 4]]]
