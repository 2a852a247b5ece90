"""The image files that paths, folders, patterns and tables stand for."""

import glob
import os
from collections.abc import Iterable

from keras_patchpu.datasets.read_image import EXTENSIONS
from keras_patchpu.datasets.table_file import TABLES
from keras_patchpu.datasets.table_rows import read_image_paths


def list_images(
    arguments: Iterable[str], overlays: str | None = None, allow_outside: bool = False
) -> list[str]:
    """The images that paths, folders, patterns and tables stand for.

    Args:
        arguments: Paths of files, folders or tables, and patterns.
        overlays: Folder of pictures drawn of them; what folders and patterns
            hold of it is left out. Defaults to `None`.
        allow_outside: Whether tables may name images outside their folder. Defaults to
            `False`.

    Returns:
        List of paths, each once, in the order of the arguments and sorted inside each folder
        and pattern.

    Raises:
        ValueError: An argument stands for no image, or a table cannot be read, has no column
            `image`, or names an image outside its folder.
    """
    found = []
    for argument in arguments:
        if os.path.isdir(argument):
            images = _without(overlays, _images_in(argument))
        elif os.path.isfile(argument):
            is_table = argument.lower().endswith(TABLES)
            images = read_image_paths(argument, allow_outside) if is_table else [argument]
        else:
            matching = sorted(filter(os.path.isfile, glob.glob(argument, recursive=True)))
            images = _without(overlays, matching)
        if not images:
            raise ValueError(
                f"Expected an image, a folder of images, a pattern or a table. Received: {argument}"
            )
        found += images
    # "a.jpg" and "./a.jpg" are one image.
    once: dict[str, str] = {}
    for path in found:
        once.setdefault(os.path.normpath(path), path)
    return list(once.values())


def _images_in(folder):
    return sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(EXTENSIONS)
    )


def _without(folder, paths):
    if folder is None:
        return paths
    inside = os.path.join(os.path.abspath(folder), "")
    return [path for path in paths if not os.path.abspath(path).startswith(inside)]
