"""Files of PyTorch, made here by hand: what is in them is read, and nothing else is."""

import pickle
import struct

import numpy as np
import pytest

from keras_patchpu.backbones.torch_file import read_torch_file
from keras_patchpu.utils.validation import FileError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def op_global(name):
    return b"c" + name.replace(" ", "\n").encode() + b"\n"


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value):
    return b"J" + struct.pack("<i", value)


def storage(key, size, kind="torch FloatStorage"):
    """('storage', type, key, 'cpu', size, None) as a persistent number."""
    return (
        b"(" + text("storage") + op_global(kind) + text(key) + text("cpu") + integer(size) + b"NtQ"
    )


def numbers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor(key, size, offset, shape, strides, kind="torch FloatStorage"):
    called = op_global("torch._utils _rebuild_tensor_v2")
    arguments = storage(key, size, kind) + integer(offset) + numbers(shape) + numbers(strides)
    return (
        called + b"(" + arguments + b"\x89" + op_global("collections OrderedDict") + b")Rt" + b"R"
    )


def file_of(tensors, storages, begin=(MAGIC, PROTOCOL, {})):
    """A file of pickled tensors by name, and of raw numbers by key."""
    parts = [pickle.dumps(value, 2) for value in begin]
    items = b"".join(text(name) + made for name, made in tensors.items())
    parts.append(b"\x80\x02" + op_global("collections OrderedDict") + b")R(" + items + b"u.")
    parts.append(pickle.dumps(list(storages), 2))
    for values in storages.values():
        parts.append(struct.pack("<q", len(values)) + values.tobytes())
    return b"".join(parts)


VALUES = np.arange(6, dtype="<f4")


def test_tensors_of_any_offset_and_strides():
    tensors = {
        "whole": tensor("0", 6, 0, (2, 3), (3, 1)),
        "turned": tensor("0", 6, 0, (3, 2), (1, 3)),
        "part": tensor("0", 6, 2, (2,), (1,)),
        "count": tensor("1", 1, 0, (), (), "torch LongStorage"),
    }
    found = read_torch_file(file_of(tensors, {"0": VALUES, "1": np.array([7], "<i8")}))
    np.testing.assert_array_equal(found["whole"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["turned"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found["part"], [2, 3])
    assert found["count"] == 7 and found["count"].shape == ()
    assert {name: array.dtype for name, array in found.items()} == {
        "whole": "float32",
        "turned": "float32",
        "part": "float32",
        "count": "int64",
    }


@pytest.mark.parametrize(
    "tensors, message",
    [
        ({"a": op_global("os system") + text("true") + b"\x85R"}, "names os system"),
        ({"a": op_global("builtins eval")}, "names builtins eval"),
        ({"a": op_global("collections OrderedDict") + text("x") + b"\x85R"}, "calls collections"),
        ({"a": tensor("0", 6, 0, (2,), (1,), "torch DoubleStorage")}, "names torch DoubleStorage"),
        ({"a": tensor("0", 6, 3, (4,), (1,))}, "larger than its numbers"),
        ({"a": tensor("0", 6, 0, (2, 3), (4, 1))}, "larger than its numbers"),
        ({"a": tensor("0", 6, -1, (2,), (1,))}, "wrong shape"),
        ({"a": tensor("0", 6, 5, (2,), (-1,))}, "wrong shape"),
        ({"a": tensor("0", 7, 0, (2,), (1,))}, "cut off or damaged"),
        ({"a": integer(3)}, "damaged"),
        ({"a": b"\x8c\x01ab"}, "SHORT_BINUNICODE|damaged"),
    ],
)
def test_anything_else_is_refused(tensors, message):
    with pytest.raises(FileError, match=message):
        read_torch_file(file_of(tensors, {"0": VALUES}))


def test_damaged_files_are_refused():
    whole = file_of({"a": tensor("0", 6, 0, (6,), (1,))}, {"0": VALUES})
    for length in range(0, len(whole), 3):
        with pytest.raises(FileError):
            read_torch_file(whole[:length])
    with pytest.raises(FileError, match="before version 1.6"):
        read_torch_file(file_of({}, {}, begin=(MAGIC + 1, PROTOCOL, {})))
    with pytest.raises(FileError):
        read_torch_file(b"PK\x03\x04" + whole)
