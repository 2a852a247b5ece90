"""The command `patchpu inspect`: what is in one's own images, before a training."""

import concurrent.futures
import hashlib
import io
import os
import pathlib
import sys
import textwrap
import warnings

import numpy as np
from jsonargparse import ArgumentParser, DefaultHelpFormatter
from jsonargparse.typing import NonNegativeInt, PositiveInt

from keras_patchpu.command import add_allow_outside, user_errors
from keras_patchpu.whole_files import whole_file

# Nothing of `keras_patchpu.datasets` is imported up here: it imports Keras, and `--help` is quick.

_BAR = 30
_LISTED = 10  # names or groups that are printed before "and N more"
_ROWS, _COLUMNS = 8, 5  # of the picture
_MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey, transparency becomes white",
    "P": "palette",
    "PA": "palette, transparency becomes white",
    "RGBA": "transparency becomes white",
    "CMYK": "print colours",
    "I": "grey of 16 or 32 bits",
    "I;16": "grey of 16 bits",
    "I;16B": "grey of 16 bits",
    "F": "grey, floating point",
}


def inspect(arguments):
    """The command `patchpu inspect`.

    Args:
        arguments: List of strings, without the command's name.

    Raises:
        SystemExit: Code 2 and a message on stderr for what a user can mend; code 1 if
            there are images that cannot be read; code 0 after `--help`.
    """
    options = _parser().parse_args(arguments)
    from keras_patchpu.datasets.table import load_table

    with user_errors("patchpu inspect"):
        picture = pathlib.Path(options.picture)
        if picture.suffix.lower() != ".png" or not picture.parent.is_dir():
            raise ValueError(
                "expected `--picture` to be a file named .png in a folder that exists. Received: "
                f"{picture}"
            )
        table = load_table(options.path, allow_outside=options.allow_outside)
        found = inspect_files(
            table.train,
            table.validation,
            image_size=options.image_size,
            patch_size=options.patch_size,
            max_pixels=options.max_pixels,
            few=options.few,
            progress=_show_progress,
        )
        print(report(found))
        unreadable = {entry["name"] for entry in found["unreadable"]}
        figure = draw_samples(table.train, unreadable, options.max_pixels)
        if figure is not None:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Glyph")  # a script the font lacks
                with whole_file(picture) as temporary:
                    figure.savefig(temporary, dpi=110)
            print(f"\nsamples of the training images: {picture}")
    if unreadable:
        raise SystemExit(1)


def _parser():
    parser = ArgumentParser(
        prog="patchpu inspect",
        description="Read all images of a table or of a folder with one folder per class, and "
        "tell what stands out. Ends with code 1 if an image cannot be read.",
        formatter_class=DefaultHelpFormatter,
    )
    parser.add_argument(
        "path",
        metavar="TABLE_OR_FOLDER",
        type=str,
        help="CSV or Parquet file with the columns image and label (or labels), or a folder.",
    )
    for name, kind, default, text in [
        ("image-size", PositiveInt, 256, "Side in pixels that a training would resize them to."),
        ("patch-size", PositiveInt, 32, "Side of a patch in pixels."),
        ("max-pixels", PositiveInt, 100_000_000, "Images of more pixels are not read."),
        ("picture", str, "samples.png", "Where to draw samples of the labels."),
        ("few", NonNegativeInt, 10, "Labels with fewer training images are named."),
    ]:
        parser.add_argument(f"--{name}", type=kind, default=default, help=text)
    add_allow_outside(parser)
    return parser


def inspect_files(
    files,
    validation=None,
    image_size=640,
    patch_size=64,
    max_pixels=100_000_000,
    few=10,
    progress=None,
):
    """Reads every image and counts.

    Args:
        files: `ImageFiles`, the training images or all.
        validation: `ImageFiles`. Defaults to `None`: none.
        image_size: Side in pixels that images will be resized to. Defaults to `640`.
        patch_size: Side of a patch in pixels. Defaults to `64`.
        max_pixels: As of `read_image`. Defaults to 100 million.
        few: Labels present in fewer training images are named. Defaults to `10`.
        progress: Function of the number of images done and of all. Defaults to `None`.

    Returns:
        Dict of

        - `images`, `train`, `validation`: numbers of images;
        - `labels`: a dict for each label, the most frequent first: its `name` and the
          numbers of images where it is known `present`, `absent` and `unknown`, and
          present in `train` and in `validation`;
        - `labels_with_few`, `labels_not_in_validation`: names of labels;
        - `none`, `one`, `several`: numbers of images with so many labels known present;
        - `unreadable`: dicts of `name` and `reason`;
        - `duplicates`: for images of the same bytes, dicts of `names`, `labels_differ` and
          `in_both_splits`;
        - `sizes`: `(height, width)` of the `smallest`, `median` and `largest` image by
          pixels, upright, or `None` if no image can be read;
        - `smaller_than_patch`: names of images with a side below `patch_size`, and
          `smaller_than_image`: number of those with a side below `image_size`;
        - `modes`: Pillow's colour modes and their numbers of images;
        - `image_size`, `patch_size`, `few`: the arguments.
    """
    parts = [files] if validation is None else [files, validation]
    names = [name for part in parts for name in part.names]
    known = np.concatenate([part.labels for part in parts])
    in_train = np.arange(len(names)) < len(files)
    looks = _look_at_all(parts, max_pixels, progress)

    labels = [
        {
            "name": name,
            "present": int((column == 1).sum()),
            "absent": int((column == -1).sum()),
            "unknown": int((column == 0).sum()),
            "train": int((column[in_train] == 1).sum()),
            "validation": int((column[~in_train] == 1).sum()),
        }
        for name, column in zip(files.label_names, known.T)
    ]
    labels.sort(key=lambda entry: (-entry["present"], entry["name"]))
    num_present = (known == 1).sum(axis=1)

    same = {}
    for index, look in enumerate(looks):
        if "digest" in look:
            same.setdefault(look["digest"], []).append(index)
    duplicates = [
        {
            "names": [names[index] for index in group],
            "labels_differ": bool((known[group] != known[group[0]]).any()),
            "in_both_splits": len(set(in_train[group].tolist())) == 2,
        }
        for group in same.values()
        if len(group) > 1
    ]
    read = [index for index, look in enumerate(looks) if "size" in look]
    sizes = [looks[index]["size"] for index in read]
    by_pixels = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    modes = {}
    for index in read:
        modes[looks[index]["mode"]] = modes.get(looks[index]["mode"], 0) + 1
    return {
        "images": len(names),
        "train": len(files),
        "validation": 0 if validation is None else len(validation),
        "labels": labels,
        "labels_with_few": [entry["name"] for entry in labels if entry["train"] < few],
        "labels_not_in_validation": [
            entry["name"] for entry in labels if validation is not None and not entry["validation"]
        ],
        "several": int((num_present > 1).sum()),
        "one": int((num_present == 1).sum()),
        "none": int((num_present == 0).sum()),
        "unreadable": [
            {"name": name, "reason": look["reason"]}
            for name, look in zip(names, looks)
            if "reason" in look
        ],
        "duplicates": duplicates,
        "sizes": None
        if not sizes
        else {
            "smallest": by_pixels[0],
            "median": by_pixels[(len(sizes) - 1) // 2],
            "largest": by_pixels[-1],
        },
        "patch_size": patch_size,
        "image_size": image_size,
        "few": few,
        "smaller_than_patch": [
            names[index] for index, size in zip(read, sizes) if min(size) < patch_size
        ],
        "smaller_than_image": sum(min(size) < image_size for size in sizes),
        "modes": dict(sorted(modes.items(), key=lambda item: (-item[1], item[0]))),
    }


def report(found):
    """The text of `patchpu inspect`.

    Args:
        found: Dict as of `inspect_files`.

    Returns:
        String of several lines.
    """
    lines = [f"images: {found['images']}"]
    if found["validation"]:
        lines[0] += f" ({found['train']} train, {found['validation']} validation)"

    width = min(40, max(len("label"), *[len(entry["name"]) for entry in found["labels"]], 0))
    most = max([1, *[entry["present"] for entry in found["labels"]]])
    lines += ["", f"{'label':{width}}  present   absent  unknown"]
    for entry in found["labels"]:
        # A label that is present somewhere has a bar of one mark at least.
        bar = "#" * -(-_BAR * entry["present"] // most)
        counts = "  ".join(f"{entry[key]:7d}" for key in ("present", "absent", "unknown"))
        name = _cut(entry["name"], width)
        lines.append(f"{name:{width}}  {counts}  {bar}".rstrip())
    if found["labels_with_few"]:
        in_train = {entry["name"]: entry["train"] for entry in found["labels"]}
        some = _some([f"{name} ({in_train[name]})" for name in found["labels_with_few"]])
        lines += ["", f"shown by fewer than {found['few']} training images: {some}"]
    if found["labels_not_in_validation"]:
        lines += ["", f"no validation image shows {_some(found['labels_not_in_validation'])}"]

    lines += [
        "",
        f"labels known present in an image: one in {found['one']} images, several in "
        f"{found['several']}, none in {found['none']}",
    ]
    if found["sizes"]:
        texts = [f"{name} {_size(size)}" for name, size in found["sizes"].items()]
        lines += ["", f"sizes, width x height: {', '.join(texts)}"]
        side = found["image_size"]
        if found["smaller_than_image"]:
            lines.append(
                f"  {found['smaller_than_image']} have a side below {side} pixels: enlarged for a "
                f"{side} x {side} image"
            )
    small = found["smaller_than_patch"]
    if small:
        lines.append(
            f"  WARNING: {len(small)} have a side below {found['patch_size']} pixels, smaller than "
            f"one patch; they are blown up and show the model little: {_some(small)}"
        )
    converted = [(mode, count) for mode, count in found["modes"].items() if mode != "RGB"]
    if converted:
        lines += ["", "colour modes converted to RGB:"]
        for mode, count in converted:
            lines.append(f"  {mode} ({_MODES.get(mode, 'other')}): {count}")
    lines += _duplicate_lines(found["duplicates"])

    if found["unreadable"]:
        lines += ["", f"images that cannot be read: {len(found['unreadable'])}"]
        lines += [f"  {entry['name']}: {entry['reason']}" for entry in found["unreadable"]]
    else:
        lines += ["", "every image can be read"]
    return "\n".join(lines)


def draw_samples(files, leave_out=(), max_pixels=100_000_000, seed=0):
    """Draws some images of each label, a row a label, the 8 most frequent labels.

    Args:
        files: `ImageFiles`.
        leave_out: Names of images that are not drawn.
        max_pixels: As of `read_image`. Defaults to 100 million.
        seed: Integer seed of the choice. Defaults to `0`.

    Returns:
        `matplotlib.figure.Figure` with 5 axes a row, or `None` if no image of a known
        label is left.
    """
    from matplotlib.figure import Figure

    readable = np.array([name not in leave_out for name in files.names])
    present = (files.labels == 1) & readable[:, None]
    labels = [label for label in np.argsort(-present.sum(axis=0), kind="stable")[:_ROWS]]
    labels = [label for label in labels if present[:, label].any()]
    if not labels:
        return None
    figure = Figure(figsize=(11.0, 1.85 * len(labels)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05)
    panels = figure.subplots(len(labels), _COLUMNS, squeeze=False)
    random = np.random.default_rng(seed)
    for row, label in zip(panels, labels):
        all_of_label = np.flatnonzero(present[:, label])
        chosen = random.permutation(all_of_label)[:_COLUMNS]
        name = textwrap.fill(files.label_names[label], 16, max_lines=3, placeholder=" ...")
        row[0].set_ylabel(
            f"{name}\n{len(all_of_label)} image{'s' if len(all_of_label) > 1 else ''}",
            rotation=0,
            horizontalalignment="right",
            verticalalignment="center",
            labelpad=10,
            fontsize=11,
            parse_math=False,  # a name may have dollars
        )
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_box_aspect(0.75)
            axes.spines[:].set_visible(False)
        for axes, index in zip(row, chosen):
            axes.imshow(_thumbnail(files, index, max_pixels), interpolation="antialiased")
            others = [
                files.label_names[other]
                for other in np.flatnonzero(files.labels[index] == 1)
                if other != label
            ]
            title = _end(files.names[index], 25)
            if others:
                title += "\n" + _cut(f"also {', '.join(others)}", 25)
            axes.set_title(title, fontsize=8.5, parse_math=False)
    return figure


# === Reading ===


def _look_at_all(parts, max_pixels, progress):
    """A dict for each image, in parallel: reading and decoding release the interpreter's lock."""
    places = [(part, index) for part in parts for index in range(len(part))]
    looks = []
    workers = min(8, os.cpu_count() or 1)  # each may hold an image of `max_pixels`
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about odd files that it reads all the same
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            for look in pool.map(lambda place: _look(*place, max_pixels), places):
                looks.append(look)
                if progress is not None:
                    progress(len(looks), len(places))
    return looks


def _look(files, index, max_pixels):
    """`digest`, `size` and `mode` of an image, or the `reason` why it cannot be read."""
    from PIL import Image

    from keras_patchpu.datasets.read_image import FORMATS, ImageError, read_image

    name, source = files.names[index], files.sources[index]
    try:
        content = source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()
    except OSError as error:
        return {"reason": error.strerror or str(error)}
    try:
        height, width, _ = read_image(content, name=name, max_pixels=max_pixels).shape
    except ImageError as error:
        return {"reason": str(error).removeprefix(f"{name}: ")}
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        mode = image.mode  # of the file, before it was converted
    digest = hashlib.sha256(content).hexdigest()
    return {"digest": digest, "size": (height, width), "mode": mode}


def _thumbnail(files, index, max_pixels):
    from PIL import Image

    from keras_patchpu.datasets.read_image import read_image

    image = read_image(files.sources[index], name=files.names[index], max_pixels=max_pixels)
    image = Image.fromarray(image)
    image.thumbnail((320, 320))
    return np.asarray(image)


def _show_progress(done, count):
    """A line on stderr, written anew when the percentage changes."""
    if 100 * done // count != 100 * (done - 1) // count:
        end = "\n" if done == count else ""
        print(f"\rreading images: {100 * done // count:3d} %", end=end, file=sys.stderr, flush=True)


# === Text ===


def _duplicate_lines(duplicates):
    if not duplicates:
        return []
    differ = sum(group["labels_differ"] for group in duplicates)
    both = sum(group["in_both_splits"] for group in duplicates)
    lines = ["", f"groups of images that are the same, byte by byte: {len(duplicates)}"]
    if differ:
        lines.append(
            f"  WARNING: with different labels: {differ}; keep one image with the right ones"
        )
    if both:
        lines.append(f"  WARNING: in train and in validation: {both}")
    for group in sorted(duplicates, key=lambda group: not group["labels_differ"])[:_LISTED]:
        note = " (different labels)" if group["labels_differ"] else ""
        lines.append(f"  {' = '.join(group['names'][:_LISTED])}{note}")
    if len(duplicates) > _LISTED:
        lines.append(f"  and {len(duplicates) - _LISTED} more")
    return lines


def _some(names):
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _size(size):
    return f"{size[1]} x {size[0]}"


def _cut(text, length):
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _end(name, length):
    """The last part of a path, cut at the front: file names differ at their ends."""
    name = name.rsplit("/", 1)[-1]
    return name if len(name) <= length else f"...{name[3 - length :]}"
