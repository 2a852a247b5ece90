"""Arrays from files that are damaged, of another run, or no arrays at all."""

import io
import pickle

import numpy as np
import pytest

from keras_patchpu.callbacks.load_array import load_array
from keras_patchpu.utils.validation import FileError

ARRAY = np.arange(6, dtype="float32").reshape(2, 3)


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def saved(path, array, **options):
    np.save(path, array, **options)
    return path


def message(path, shape=(2, 3), **options):
    with pytest.raises(FileError) as error:
        load_array(path, shape, **options)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("in_memory", [True, False])
def test_loads_what_was_saved(in_memory, tmp_path):
    path = saved(tmp_path / "a.npy", ARRAY)
    for shape in ((2, 3), (None, 3), (None, None)):
        found = load_array(path, shape, in_memory=in_memory)
        np.testing.assert_array_equal(found, ARRAY)
        assert isinstance(found, np.memmap) != in_memory


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("length", [0, 5, 60, 128, 129, 151])
def test_cut_off(length, in_memory, tmp_path):
    path = saved(tmp_path / "a.npy", ARRAY)
    assert path.stat().st_size == 152  # 128 of the head
    path.write_bytes(path.read_bytes()[:length])
    assert "is cut off or damaged" in message(path, in_memory=in_memory)


@pytest.mark.parametrize("content", [np.array([Bomb()]), Bomb()], ids=["array", "pickle"])
def test_nothing_is_unpickled(content, tmp_path):
    path = tmp_path / "a.npy"
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(content))
    assert "or holds other things than numbers" in message(path)


def test_a_head_that_declares_more_than_there_is(tmp_path):
    for shape in ((10**12, 10**6), (2**62, 4), (2**40, 2**40)):
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        (tmp_path / "a.npy").write_bytes(file.getvalue() + bytes(100))
        message(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "array, received",
    [
        (ARRAY[:, :2], r"float32, shape (2, 2)"),
        (ARRAY.ravel(), r"float32, shape (6,)"),
        (ARRAY[None], r"float32, shape (1, 2, 3)"),
        (ARRAY.astype("int64"), r"int64, shape (2, 3)"),
        (ARRAY.astype("complex64"), r"complex64, shape (2, 3)"),
        (ARRAY.astype("U5"), r"<U5, shape (2, 3)"),
    ],
)
def test_other_arrays(array, received, tmp_path):
    text = message(saved(tmp_path / "a.npy", array))
    assert f"of the shape (2, 3). Received: {received}" in text


def test_an_archive_of_arrays(tmp_path):
    with open(tmp_path / "a.npy", "wb") as file:
        np.savez(file, ARRAY)
    assert "Received: an archive of arrays" in message(tmp_path / "a.npy")
