"""Tags of many image files, whole or named with their error."""

import gc
import itertools
import os
import pathlib

from keras_patchpu.datasets import list_images
from keras_patchpu.models.load_classifier import model_digest, model_file
from keras_patchpu.tagging import Tagger
from keras_patchpu.utils.progress_bar import progress_bar
from keras_patchpu.utils.whole_files import check_output
from patchpu.prediction.overlays import picture_names, write_overlay
from patchpu.prediction.rows import Rows, check_settings, resume, settings_file
from patchpu.prediction.shards import Shard, names_digest


def predict_files(
    model,
    images,
    output,
    shard=None,
    overwrite=False,
    top_k=None,
    batch_size=16,
    boxes=False,
    scores=True,
    overlays=None,
    max_pixels=None,
    allow_outside=False,
):
    """Tags image files and writes a row for each.

    Args:
        model, top_k, batch_size, max_pixels: As of `Tagger`.
        images, allow_outside: As of `list_images`.
        output: Path of the file to write, .csv or .jsonl.
        shard: `"K/N"`, see `Shard`. Defaults to `None`: all images.
        overwrite: Whether to replace the output. Defaults to `False`.
        boxes: Whether to write where each tag is. Defaults to `False`.
        scores: Whether to write the probabilities of all labels. Defaults to `True`.
        overlays: Folder of a picture for each image. Defaults to `None`: none are drawn.

    Returns:
        `Errors` of images that could not be read.

    Raises:
        ValueError: An argument is wrong, or what a killed run left is of another command.
    """
    output = pathlib.Path(output)
    part = output.with_name(output.name + ".part")
    shard = Shard(shard) if shard is not None else None
    _check_output(output, overwrite)
    if overlays:
        os.makedirs(overlays, exist_ok=True)
    names = list_images(images, overlays, allow_outside)
    model = model_file(model)  # of the Hub downloaded once
    tagger = Tagger(
        model,
        top_k,
        batch_size,
        max_pixels,
        attention=boxes or bool(overlays),
    )
    rows = Rows(output.suffix, tagger.label_names, boxes, scores)
    settings = {
        "model": model_digest(model),
        "top_k": top_k,
        "boxes": boxes,
        "scores": scores,
        "overlays": overlays,
        "max_pixels": max_pixels,
    }
    pictures = picture_names(names) if overlays else ()
    if shard is not None:
        settings |= {"shard": str(shard), "batch_size": batch_size, "images": names_digest(names)}
        own = shard.part(len(names), batch_size)
        names, pictures = names[own.start : own.stop], pictures[own.start : own.stop]
    check_settings(part, settings)
    done, errors = resume(part, rows, names)
    if done:
        print(f"{part}: going on after {done} of {len(names)} images")

    with open(part, "a", encoding="utf-8", errors="surrogateescape", newline="") as file:
        if not done:
            rows.write_header(file)
        left = len(names) - done
        tagged = progress_bar(tagger(itertools.islice(names, done, None)), left)
        for count, found in enumerate(tagged, start=1):
            if found.error:
                errors.add(found.error)
            elif overlays:  # before its row: an image with a row has its picture
                picture = os.path.join(overlays, pictures[done + count - 1])
                write_overlay(picture, found, tagger)
            rows.write(file, found)
            if count % batch_size == 0 or count == left:
                file.flush()
                if overlays:
                    gc.collect()  # figures refer to themselves, and would pile up
        file.flush()
        os.fsync(file.fileno())  # before it has its name, see `whole_file`
    os.replace(part, output)
    settings_file(part).unlink(missing_ok=True)
    print(f"{output}: {len(names)} images, {errors.count} of them could not be read")
    return errors


def _check_output(output, overwrite):
    if output.suffix not in (".csv", ".jsonl"):
        raise ValueError(f"Expected --output to end with .csv or .jsonl. Received: {output}")
    check_output(output, overwrite)
