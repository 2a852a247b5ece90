"""The command `patchpu predict`: tags of many image files."""

import sys

from patchpu.commands.options import run_command


def main(arguments):
    run_command(predict, arguments)


def predict(
    model: str,
    images: list[str],
    output: str = "tags.csv",
    shard: str | None = None,
    overwrite: bool = False,
    top_k: int | None = None,
    batch_size: int = 16,
    boxes: bool = False,
    scores: bool = True,
    overlays: str | None = None,
    max_pixels: int | None = None,
    allow_outside: bool = False,
):
    """Tag images with a trained model.

    A run that was killed resumes when the same command is given again. Ends with code 1 if
    images could not be read.

    Args:
        model: A .keras file, a run folder, or hf://user/name.
        images: Image files, folders (with the folders in them), patterns in quotes, or a .csv or
            .parquet table with a column `image` of paths relative to the table.
        output: File to write, .csv or .jsonl.
        shard: K/N: only the K-th of N parts of the images, into an --output of its own. Give
            each machine another K.
        overwrite: Whether to replace the output if it is there.
        top_k: Tags an image, at most. null: 3, or no limit if the model has thresholds.
        batch_size: Images predicted at once.
        boxes: Whether to write where each tag is: the box around the area connected to the peak
            of its attention with at least half of the peak, in pixels.
        scores: Whether to write the probabilities of all labels.
        overlays: Folder for one PNG an image: the image under the attention of its tags.
        max_pixels: Larger images are refused. null: 100 million pixels.
        allow_outside: Whether a table may name images outside its folder.
    """
    from patchpu.prediction.predict_files import predict_files

    errors = predict_files(
        model,
        images,
        output,
        shard,
        overwrite,
        top_k,
        batch_size,
        boxes,
        scores,
        overlays,
        max_pixels,
        allow_outside,
    )
    if errors.count:
        print(f"{errors.count} images could not be read:", file=sys.stderr)
        for error in errors.first:
            print(f"  {error}", file=sys.stderr)
        if errors.count > len(errors.first):
            print("  ... the column `error` has all", file=sys.stderr)
        raise SystemExit(1)
