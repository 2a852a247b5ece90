"""All that `patchpu inspect` does with a table."""

import pathlib
import warnings

from keras_patchpu.datasets.table import load_table
from keras_patchpu.utils.whole_files import whole_file
from patchpu.inspection.inspect_files import inspect_files
from patchpu.inspection.report import report
from patchpu.inspection.samples import draw_samples


def inspect_table(path, picture, image_size, patch_size, max_pixels, few, allow_outside):
    """Reads all images of a table, prints what stands out, and draws samples.

    Args:
        path, allow_outside: As of `load_table`.
        picture: Path of the picture of samples; ends with .png.
        image_size, patch_size, max_pixels, few: As of `inspect_files`.

    Returns:
        Set of the names of images that cannot be read.

    Raises:
        ValueError: The table or the place of the picture is none.
    """
    picture = pathlib.Path(picture)
    if picture.suffix.lower() != ".png" or not picture.parent.is_dir():
        raise ValueError(
            "expected `--picture` to be a file named .png in a folder that exists. Received: "
            f"{picture}"
        )
    table = load_table(path, allow_outside=allow_outside)
    found = inspect_files(
        table.train,
        table.validation,
        image_size=image_size,
        patch_size=patch_size,
        max_pixels=max_pixels,
        few=few,
        verbose=True,
    )
    print(report(found))
    unreadable = {entry["name"] for entry in found["unreadable"]}
    figure = draw_samples(table.train, unreadable, max_pixels)
    if figure is not None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # a script the font lacks
            with whole_file(picture) as temporary:
                figure.savefig(temporary, dpi=110)
        print(f"\nsamples of the training images: {picture}")
    return unreadable
