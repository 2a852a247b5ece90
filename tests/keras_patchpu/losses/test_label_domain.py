"""Labels +1, 0, -1 as the paper's z+ and z-."""

import keras
import numpy as np
import pytest
from backend import numpy

from keras_patchpu.losses import split_labels


@pytest.mark.parametrize("dtype", ["int8", "int32", "float32"])
def test_observed_present_and_observed_absent(dtype):
    present, absent = split_labels(np.array([[1, 0, -1], [0, 0, 1]], dtype))
    np.testing.assert_array_equal(numpy(present), [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(numpy(absent), [[0, 0, 1], [0, 0, 0]])
    assert keras.backend.standardize_dtype(present.dtype) == "float32"
    assert keras.backend.standardize_dtype(absent.dtype) == "float32"


def test_dtype_of_the_result():
    for part in split_labels(np.array([[1, -1]]), "float16"):
        assert keras.backend.standardize_dtype(part.dtype) == "float16"


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_nothing_to_split_is_explained(shape):
    with pytest.raises(ValueError) as error:
        split_labels(np.zeros(shape))
    assert str(error.value) == (
        f"Expected labels (B, L) of at least one image and one label. Received: shape {shape}"
    )
