"""The command `patchpu inspect`: what is in one's own images, before a training."""

from jsonargparse.typing import NonNegativeInt, PositiveInt

from patchpu.commands.options import run_command


def main(arguments):
    run_command(inspect, arguments)


def inspect(
    table: str,
    image_size: PositiveInt = 256,
    patch_size: PositiveInt = 32,
    max_pixels: PositiveInt = 100_000_000,
    picture: str = "samples.png",
    few: NonNegativeInt = 10,
    allow_outside: bool = False,
):
    """Read all images of a table, or of a folder with one folder per class.

    Tells what stands out. Ends with code 1 if an image cannot be read.

    Args:
        table: CSV or Parquet file with the columns image and label (or labels), or a folder.
        image_size: Side in pixels that a training would resize them to.
        patch_size: Side of a patch in pixels.
        max_pixels: Images of more pixels are not read.
        picture: Where to draw samples of the labels.
        few: Labels with fewer training images are named.
        allow_outside: Whether a table may name images outside its folder.
    """
    from patchpu.inspection.inspect_table import inspect_table

    unreadable = inspect_table(
        table, picture, image_size, patch_size, max_pixels, few, allow_outside
    )
    if unreadable:
        raise SystemExit(1)
