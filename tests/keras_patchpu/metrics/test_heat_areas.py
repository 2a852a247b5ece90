import numpy as np

from keras_patchpu.metrics import peak_region


def test_peak_region_of_a_map():
    heat = np.array([[0, 3, 0, 9], [0, 5, 0, 0], [5, 10, 4.9, 6]])
    assert peak_region(heat) == (slice(1, 3), slice(0, 2))
    assert peak_region(heat * 0) is None


def test_of_equal_peaks_the_first_counts():
    heat = np.array([[0, 4, 0], [4, 0, 4], [4, 4, 4]])
    assert peak_region(heat) == (slice(0, 1), slice(1, 2))
    assert peak_region(heat[::-1]) == (slice(0, 2), slice(0, 3))


def test_sums_in_another_order_are_equal():
    half = np.float32(0.5) * (1 - 1e-6)
    assert peak_region(np.array([[1, half, 0.4]], "float32")) == (slice(0, 1), slice(0, 2))
