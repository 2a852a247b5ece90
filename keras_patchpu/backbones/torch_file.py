"""Weights from a file of PyTorch, read as data: nothing in it is run, and PyTorch is not needed.

`torch.save` wrote pickles: programs. Here their instructions are listed by `pickletools`, which
runs none, and the few that say "a dict of tensors" are followed; any other is refused.
"""

import io
import pickletools
import struct

import numpy as np

from keras_patchpu.utils.validation import FileError

_TENSOR = "torch._utils _rebuild_tensor_v2"
_DICT = "collections OrderedDict"
_TYPES = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_LITERALS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"}


class _Storage:
    """Numbers that follow behind the pickles."""

    def __init__(self, dtype, key, size):
        self.dtype, self.key, self.size = dtype, key, size


class _Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides


def read_torch_file(content):
    """Arrays by name of the bytes of a file that holds a dict of tensors, as before PyTorch 1.6.

    Args:
        content: bytes.

    Returns:
        Dict of NumPy arrays.

    Raises:
        FileError: It is no such file, or it holds anything but float32 and int64 tensors.
    """
    try:
        return _read(io.BytesIO(content), len(content))
    except FileError:
        raise
    except Exception as error:  # of a damaged file anything may be wrong
        raise FileError(f"The file of weights is damaged: {error}") from error


def _read(file, length):
    if (_followed(file), _followed(file)) != (_MAGIC, _PROTOCOL):
        raise FileError("Expected a file of weights as PyTorch wrote them before version 1.6")
    _followed(file)  # of the machine that wrote it
    tensors, keys = _followed(file), _followed(file)
    if not isinstance(tensors, dict) or not isinstance(keys, list):
        raise FileError("Expected a file that holds a dict of tensors alone")
    sizes = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    numbers = {}
    for key in keys:
        storage = sizes[key]
        (size,) = struct.unpack("<q", file.read(8))
        num_bytes = size * np.dtype(storage.dtype).itemsize
        if size != storage.size or not 0 <= num_bytes <= length - file.tell():
            raise FileError("The file of weights is cut off or damaged")
        numbers[key] = np.frombuffer(file.read(num_bytes), storage.dtype)
    return {name: _array(tensor, numbers) for name, tensor in tensors.items()}


def _array(tensor, numbers):
    values, shape, strides = numbers[tensor.storage.key], tensor.shape, tensor.strides
    last = tensor.offset + sum((side - 1) * stride for side, stride in zip(shape, strides))
    if len(shape) != len(strides) or min((*shape, *strides, tensor.offset), default=0) < 0:
        raise FileError("The file of weights is damaged: a tensor has a wrong shape")
    if 0 in shape or last >= len(values):
        raise FileError("The file of weights is damaged: a tensor is larger than its numbers")
    step = values.itemsize
    strided = np.lib.stride_tricks.as_strided(
        values[tensor.offset :], shape, [step * stride for stride in strides], writeable=False
    )
    return np.array(strided)


def _followed(file):
    """The value of the pickle that begins here."""
    stack, marks, memory = [], [], {}
    for instruction, argument, _ in pickletools.genops(file):
        name = instruction.name
        if name == "STOP":
            return stack.pop()
        if name in _LITERALS:
            stack.append(_LITERALS[name])
        elif name in _VALUES:
            stack.append(argument)
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[name])
        elif name == "GLOBAL":
            stack.append(_allowed(argument))
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("TUPLE", "APPENDS", "SETITEMS"):
            start = marks.pop()
            items, stack[start:] = stack[start:], []
            if name == "TUPLE":
                stack.append(tuple(items))
            elif name == "APPENDS":
                stack[-1].extend(items)
            else:
                stack[-1].update(zip(items[::2], items[1::2]))
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            stack[-1][key] = value
        elif name == "APPEND":
            value = stack.pop()
            stack[-1].append(value)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            items, stack[-count:] = stack[-count:], []
            stack.append(tuple(items))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memory[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memory[argument])
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            arguments, called = stack.pop(), stack.pop()
            stack.append(_made(called, arguments))
        elif name == "BUILD":  # of an OrderedDict: PyTorch's note of versions
            stack.pop()
        elif name != "PROTO":
            raise FileError(f"The file of weights holds {name}, which is no part of tensors")
    raise FileError("The file of weights is cut off")


def _allowed(name):
    if name not in (_TENSOR, _DICT, *_TYPES):
        raise FileError(f"The file of weights names {name}, which is no part of tensors")
    return name


def _storage(identity):
    kind, type_name, key, _, size, _ = identity
    if kind != "storage" or type_name not in _TYPES:
        raise FileError(f"The file of weights holds {kind} of {type_name}, which is not known")
    return _Storage(_TYPES[type_name], key, size)


def _made(called, arguments):
    if called == _DICT and not arguments:
        return {}
    if called == _TENSOR and isinstance(arguments[0], _Storage):
        return _Tensor(*arguments[:4])
    raise FileError(f"The file of weights calls {called}, which is not known")
