"""A folder with one folder of images per class."""

import os

from keras_patchpu.datasets.image_row import ImageRow, check_no_link_outside
from keras_patchpu.datasets.read_image import EXTENSIONS


def rows_of_folder(path, allow_outside):
    """The images in the folders of a folder, labelled by the folder they lie in.

    Args:
        path: Path of the folder.
        allow_outside: As of `load_table`.

    Returns:
        List of `ImageRow`.

    Raises:
        ValueError: The folder is none of this kind, or a link leads out of it.
    """
    classes = [name for name in _listed(path) if os.path.isdir(os.path.join(path, name))]
    if not classes:
        raise ValueError(f"{path}: expected one folder per class. Received a folder without any")
    tables = [name for name in _listed(path) if name.lower().endswith((".csv", ".parquet"))]
    if len(classes) == 1 and tables:
        raise ValueError(
            f"{path}: expected one folder per class. Received one folder, {classes[0]}, and a "
            f"table; to read the table give its path, {os.path.join(path, tables[0])}"
        )
    root = os.path.realpath(path)
    rows = []
    for label in classes:
        folder = os.path.join(path, label)
        images, others = [], 0
        for file in _listed(folder):
            if os.path.isdir(os.path.join(folder, file)):
                raise ValueError(
                    f"{folder}: expected the images of this class, no folders. Received the "
                    f"folder {file}"
                )
            if file.lower().endswith(EXTENSIONS):
                images.append(file)
            else:
                others += 1
        if not images:
            raise ValueError(
                f"{folder}: expected the images of this class ({', '.join(EXTENSIONS)}). Received "
                f"a folder with none, and {others} other files"
            )
        for file in images:
            place = os.path.join(folder, file)
            name = f"{label}/{file}"
            if not allow_outside:
                check_no_link_outside(place, name, place, root)
            rows.append(ImageRow(place, name, place, {label}, set(), None))
    return rows


def _listed(folder):
    """The names in a folder but hidden ones, sorted."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    for name in names:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            escaped = os.fsencode(name).decode("ascii", "backslashreplace")
            raise ValueError(
                f"{folder}: expected file names in UTF-8. Received: {escaped}; rename it"
            ) from error
    return names
