"""The command `patchpu predict`: tags of many image files, whole or named with their error."""

import collections
import gc
import glob
import itertools
import os
import pathlib
import re
import sys
import time

import numpy as np

from keras_patchpu.command import (
    add_allow_outside,
    add_flag,
    add_max_pixels,
    add_overwrite,
    user_errors,
)
from keras_patchpu.predict import Tagger
from keras_patchpu.predict_rows import Rows, check_settings, resume, settings_file
from keras_patchpu.shards import Shard, names_digest, write_shard_file
from keras_patchpu.whole_files import check_output, whole_file

# Keras and what imports it stand inside the functions, so that `--help` is quick.

_OVERLAY_TAGS = 6
_OVERLAY_SIDE = 480


def predict(arguments):
    """The command `patchpu predict`.

    Args:
        arguments: List of strings, without the command's name.

    Raises:
        SystemExit: Code 1 if images could not be read; code 2 and a message on stderr for
            what a user can mend; code 0 after `--help`.
    """
    options = _parser().parse_args(arguments)
    with user_errors("patchpu predict"):
        errors = _predict(options)
    if errors.count:
        print(f"{errors.count} images could not be read:", file=sys.stderr)
        for error in errors.first:
            print(f"  {error}", file=sys.stderr)
        if errors.count > len(errors.first):
            print("  ... the column `error` has all", file=sys.stderr)
        raise SystemExit(1)


def _parser():
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    parser = ArgumentParser(
        prog="patchpu predict",
        description="Tag images with a trained model. A run that was killed goes on where it "
        "stopped when the same command is given again.",
        formatter_class=DefaultHelpFormatter,
    )
    parser.add_argument(
        "model", type=str, help="A .keras file, a run folder (last.keras), or hf://user/name."
    )
    parser.add_argument(
        "images",
        type=str,
        nargs="+",
        help="Image files, folders (with the folders in them), patterns in quotes, or a .csv or "
        ".parquet table with a column `image` of paths relative to the table.",
    )
    parser.add_argument(
        "--output", type=str, default="tags.csv", help="File to write, .csv or .jsonl."
    )
    parser.add_argument(
        "--shard",
        type=str | None,
        default=None,
        help="K/N: only the K-th of N parts of the images, into an --output of its own. Give each "
        "machine another K; `patchpu merge` puts the N outputs together.",
    )
    add_overwrite(parser)
    parser.add_argument(
        "--top-k",
        type=int | None,
        default=None,
        help="Tags an image, at most. null: 3, or no limit if the model has thresholds.",
    )
    parser.add_argument("--batch-size", type=int, default=16, help="Images predicted at once.")
    add_flag(
        parser,
        "boxes",
        "Whether to write where each tag is: the box around the area connected to the peak "
        "of its attention with at least half of the peak, in pixels.",
    )
    add_flag(parser, "scores", "Whether to write the probabilities of all labels.", default=True)
    parser.add_argument(
        "--overlays",
        type=str | None,
        default=None,
        help="Folder for one PNG an image: the image under the attention of its tags.",
    )
    add_max_pixels(parser)
    add_allow_outside(parser)
    return parser


def _predict(options):
    """Writes the output and returns the `Errors` of images."""
    from keras_patchpu.models.load_classifier import model_digest, model_file

    output = pathlib.Path(options.output)
    part = output.with_name(output.name + ".part")
    shard = Shard(options.shard) if options.shard is not None else None
    _check_output(output, options.overwrite)
    if options.overlays:
        os.makedirs(options.overlays, exist_ok=True)
    names = list_images(options.images, options.overlays, options.allow_outside)
    model = model_file(options.model)  # of the Hub downloaded once
    tagger = Tagger(
        model,
        options.top_k,
        options.batch_size,
        options.max_pixels,
        attention=options.boxes or bool(options.overlays),
    )
    rows = Rows(output.suffix, tagger.label_names, options.boxes, options.scores)
    settings = {
        "model": model_digest(model),
        **{name: options[name] for name in ("top_k", "boxes", "scores", "overlays", "max_pixels")},
    }
    pictures = _picture_names(names) if options.overlays else ()
    if shard is not None:
        # What must be the same in all shards, and what must be in what a killed one left.
        shared = {**settings, "batch_size": options.batch_size, "images": names_digest(names)}
        del shared["overlays"]
        settings = {**settings, **shared, "shard": str(shard)}
        own = shard.part(len(names), options.batch_size)
        names, pictures = names[own.start : own.stop], pictures[own.start : own.stop]
    check_settings(part, settings)
    done, errors = resume(part, rows, names)
    if done:
        print(f"{part}: going on after {done} of {len(names)} images")

    started = time.perf_counter()
    with open(part, "a", encoding="utf-8", errors="surrogateescape", newline="") as file:
        if not done:
            rows.write_header(file)
        bar = _progress_bar(len(names) - done)
        for count, found in enumerate(tagger(itertools.islice(names, done, None)), start=1):
            if found.error:
                errors.add(found.error)
            elif options.overlays:  # before its row: an image with a row has its picture
                picture = os.path.join(options.overlays, pictures[done + count - 1])
                _write_overlay(picture, found, tagger)
            rows.write(file, found)
            if count % options.batch_size == 0 or count == len(names) - done:
                file.flush()
                rate = count / (time.perf_counter() - started)
                bar.update(count, [("images/s", rate)])
                if options.overlays:
                    gc.collect()  # figures refer to themselves, and would pile up
        file.flush()
        os.fsync(file.fileno())  # before it has its name, see `whole_file`
    if shard is not None:
        write_shard_file(output, part, shard, shared, own, len(rows.header_line()), errors.count)
    os.replace(part, output)
    settings_file(part).unlink(missing_ok=True)
    print(f"{output}: {len(names)} images, {errors.count} of them could not be read")
    return errors


def _progress_bar(target):
    import keras

    return keras.utils.Progbar(
        target,
        unit_name="image",
        stateful_metrics=["images/s"],
        interval=0.05 if sys.stdout.isatty() else 30,  # in a log each update is a line
    )


def _check_output(output, overwrite):
    if output.suffix not in (".csv", ".jsonl"):
        raise ValueError(f"Expected --output to end with .csv or .jsonl. Received: {output}")
    check_output(output, overwrite)


def list_images(arguments, overlays=None, allow_outside=False):
    """The images that the arguments of the command stand for.

    Args:
        arguments: Paths of files, folders or tables, and patterns.
        overlays: Folder of the pictures that the command draws; what folders and patterns
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
    from keras_patchpu.datasets.table import TABLES, read_image_paths

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
    once = {}
    for path in found:
        once.setdefault(os.path.normpath(path), path)
    return list(once.values())


def _images_in(folder):
    from keras_patchpu.datasets.read_image import EXTENSIONS

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


def _picture_names(names):
    """A file name for each path: no folders, all different whatever the case, not too long."""
    taken, pictures = collections.Counter(), []
    for name in names:
        flat = re.sub(r"[^\w.-]+", "_", name).strip("._")[-60:] or "image"
        while True:
            taken[flat.lower()] += 1
            number = taken[flat.lower()]
            if number == 1:
                break
            flat = f"{flat}-{number}"
        pictures.append(f"{flat}.png")
    return pictures


def _write_overlay(path, found, tagger):
    from keras_patchpu.datasets.read_image import read_image
    from keras_patchpu.visualize import draw_tags

    height, width = found.size
    ratio = min(1.0, _OVERLAY_SIDE / max(found.size))
    height, width = max(1, round(height * ratio)), max(1, round(width * ratio))
    image = read_image(found.name, size=(height, width), max_pixels=tagger.max_pixels)
    tags = found.tags[:_OVERLAY_TAGS]
    scores = dict(zip(tagger.label_names, found.scores))
    figure = draw_tags(
        image,
        [_resized(found.heatmaps[tag], (height, width)) for tag in tags],
        [f"{tag} {scores[tag]:.2f}" for tag in tags],
        [
            np.divide(found.regions[tag], [*found.size] * 2) if tag in found.regions else None
            for tag in tags
        ],
        title=os.path.basename(found.name),
    )
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _resized(heat, size):
    """A heat map at another size, each pixel the one at its place."""
    rows, columns = (np.arange(wanted) * given // wanted for wanted, given in zip(size, heat.shape))
    return heat[rows][:, columns]
