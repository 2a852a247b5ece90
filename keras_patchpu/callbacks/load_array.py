"""Arrays of a run that goes on, from files that may be damaged or of another run."""

import numpy as np

from keras_patchpu.utils.validation import FileError


def load_array(path, shape, in_memory=True):
    """Loads an array of floating-point numbers from a .npy file. Nothing is unpickled.

    Args:
        path: Path of the file.
        shape: The shape that it must have, `None` where any size will do.
        in_memory: Whether to read it whole; otherwise it is mapped from the disk. Defaults to
            `True`.

    Returns:
        NumPy array.

    Raises:
        FileError: The file is cut off or damaged, holds other things than numbers, or an
            array of another shape.
    """
    try:
        # Mapped first: what the file's head declares is not believed before there is as much.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of a damaged file NumPy raises many kinds
        raise FileError(
            f"{path} is cut off or damaged, or holds other things than numbers: {error}"
        ) from error
    if not isinstance(array, np.ndarray):
        raise FileError(f"Expected {path} to be a .npy file. Received: an archive of arrays")
    sizes = [size if wanted is None else wanted for size, wanted in zip(array.shape, shape)]
    if array.dtype.kind != "f" or array.ndim != len(shape) or array.shape != tuple(sizes):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise FileError(
            f"Expected {path} to hold floating-point numbers of the shape ({wanted}). Received: "
            f"{array.dtype}, shape {array.shape}: it is of another run or of other images"
        )
    return np.array(array) if in_memory else array
