"""Tags of images by a trained model, and the command `patchpu predict`."""

import collections
import csv
import dataclasses
import gc
import glob
import hashlib
import itertools
import json
import os
import pathlib
import re
import sys
import time

import numpy as np

from keras_patchpu.validation import check_positive_integer

# Keras and what imports it stand inside the functions, so that `--help` is quick.

_TOP_K = 3
_MOST_WORKERS = 8
_OVERLAY_TAGS = 6
_OVERLAY_SIDE = 480
_ERRORS_SHOWN = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Tags:
    """What a model says of one image.

    Attributes:
        name: Path of the image; "image 0", "image 1", ... where it came without one.
        tags: Names of the labels predicted, by falling probability.
        scores: float32 `(L,)` probabilities of all labels; `None` if it cannot be read.
        error: Why the image cannot be read; `None` if it can.
        size: `(height, width)` of the upright image in pixels; `None` if it cannot be read.
        regions: Dict of a tag to the `(y_min, x_min, y_max, x_max)` that its attention points
            at, in pixels of the image; `None` unless asked for. A tag whose attention is
            all outside the image, in the black that `image_fit="pad"` adds, has none.
        heatmaps: Dict of a tag to the float32 `(h, w)` attention over the whole image, at the
            resolution at which the model saw it; `None` unless asked for.
    """

    name: str
    tags: tuple = ()
    scores: np.ndarray | None = None
    error: str | None = None
    size: tuple | None = None
    regions: dict | None = None
    heatmaps: dict | None = None


class Tagger:
    """Tags images with a trained model, batch by batch, in their order.

    Labels predicted: with `model.thresholds` those whose probability is at least the
    label's threshold, without the `top_k` of highest probability.

    Images are read in threads while the model computes; no more than three batches are held.
    The last batch is filled up, so that the model is compiled once.

    Args:
        model: `PatchClassifier`, or path of a .keras file or of a run folder (its last.keras).
        top_k: Labels an image, at most. Defaults to `None`: 3 without thresholds, no limit
            with them.
        batch_size: Images predicted at once. Defaults to `16`.
        max_pixels: Largest image, see `read_image`. Defaults to `None`: 100 million.
        attention: Whether to tell where each tag is. Defaults to `False`.
        workers: Threads that read. Defaults to `None`: as many as processors, 8 at most.

    Call arguments:
        images: Iterable of paths, bytes of image files, or uint8 arrays `(H, W, 3)`.

    Returns:
        Generator of one `Tags` for each image. An image that cannot be read has an `error`.

    Raises:
        ValueError: The model cannot be loaded, an argument is out of range, an array is not
            as above, or the model predicts NaN.

    Example:

    ```python
    for found in Tagger("runs/mine", attention=True)(["a.jpg", "b.png"]):
        print(found.name, found.tags, found.regions, found.error)
    ```
    """

    def __init__(
        self, model, top_k=None, batch_size=16, max_pixels=None, attention=False, workers=None
    ):
        from keras_patchpu.datasets.read_image import MAX_PIXELS
        from keras_patchpu.models import PatchClassifier

        max_pixels = MAX_PIXELS if max_pixels is None else max_pixels
        workers = min(_MOST_WORKERS, os.cpu_count() or 1) if workers is None else workers
        if top_k is not None:
            check_positive_integer("top_k", top_k)
        check_positive_integer("batch_size", batch_size)
        check_positive_integer("max_pixels", max_pixels)
        check_positive_integer("workers", workers)
        if isinstance(model, (str, os.PathLike)):
            model = load_classifier(model, compile=False)
        if not isinstance(model, PatchClassifier):
            raise ValueError(
                "Expected `model` to be a PatchClassifier or the path of a saved one. Received: "
                f"{type(model).__name__}"
            )
        self.top_k = top_k
        self.batch_size = batch_size
        self.max_pixels = max_pixels
        self.attention = attention
        self.workers = workers
        self.image_size = model.image_size
        self.image_fit = model.image_fit
        self.thresholds = None if model.thresholds is None else np.array(model.thresholds)
        self.label_names = model.label_names or tuple(map(str, range(model.num_labels)))
        self._grid = _Grid(model.patch_boxes, model.image_size)
        self._model = model.fused()
        if attention:
            self._model = _with_attention(self._model)

    def __call__(self, images):
        from concurrent.futures import ThreadPoolExecutor

        tasks = enumerate(images)
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="read_image")
        reading = collections.deque()

        def read_ahead():
            for task in itertools.islice(tasks, 2 * self.batch_size - len(reading)):
                reading.append(pool.submit(self._read, *task))

        try:
            read_ahead()
            while reading:
                count = min(self.batch_size, len(reading))
                batch = [reading.popleft().result() for _ in range(count)]
                read_ahead()
                yield from self._predict(batch)
        finally:
            # Also when the caller stops early: what has not begun is not read.
            pool.shutdown(cancel_futures=True)

    def _read(self, index, image):
        """Name, pixels at the model's size and original size; or name and error."""
        from keras_patchpu.datasets.read_image import ImageError, read_image

        is_path = isinstance(image, (str, os.PathLike))
        name = os.fspath(image) if is_path else f"image {index}"
        if isinstance(image, np.ndarray):
            if image.dtype != "uint8" or image.ndim != 3 or image.shape[-1] != 3 or not image.size:
                raise ValueError(
                    f"Expected {name} to be a uint8 array of the shape (H, W, 3). Received: "
                    f"{image.dtype}, shape {image.shape}"
                )
        elif not is_path and not isinstance(image, bytes):
            raise ValueError(
                f"Expected {name} to be a path, bytes or an array. Received: {type(image).__name__}"
            )
        else:
            try:
                image = read_image(image, name=name, max_pixels=self.max_pixels)
            except ImageError as error:
                return Tags(name, error=" ".join(str(error).split())), None
        found = Tags(name, size=image.shape[:2])
        return found, _fitted(image, self.image_size, self.image_fit)

    def _predict(self, batch):
        """One `Tags` for each item of `_read`."""
        pixels = np.zeros((self.batch_size, *self.image_size, 3), "uint8")
        readable = [index for index, (_, image) in enumerate(batch) if image is not None]
        for index in readable:
            pixels[index] = batch[index][1]
        outputs = self._model.predict_on_batch(pixels) if readable else None
        scores, attention = outputs if self.attention and readable else (outputs, None)
        for index, (found, image) in enumerate(batch):
            if image is None:
                yield found
                continue
            # A copy, so that whoever keeps it does not keep the batch.
            found = dataclasses.replace(found, scores=np.array(scores[index], "float32"))
            if not np.isfinite(found.scores).all():
                raise ValueError(
                    f"{found.name}: the model predicts NaN or infinity. Its weights are damaged, "
                    "or its training diverged: take another checkpoint, such as best.keras"
                )
            labels = self._labels(found.scores)
            places = {}
            if self.attention:
                places = self._places(labels, np.asarray(attention[index]), found.size)
            tags = tuple(self.label_names[label] for label in labels)
            yield dataclasses.replace(found, tags=tags, **places)

    def _labels(self, scores):
        """Numbers of the labels predicted, by falling score, the first of equals first."""
        # float64: a threshold rounded to float32 could pass a score it should not.
        scores = scores.astype("float64")
        ranked = np.argsort(-scores, kind="stable")
        if self.thresholds is None:
            return ranked[: self.top_k or _TOP_K]
        return ranked[(scores >= self.thresholds)[ranked]][: self.top_k]

    def _places(self, labels, attention, size):
        from keras_patchpu.datasets.read_image import placed

        regions, heatmaps = {}, {}
        place = placed(size, self.image_size, self.image_fit)
        cells, ys, xs = self._grid.heat(attention[labels], place)
        for label, heat in zip(labels, cells):
            name = self.label_names[label]
            region = peak_region(heat)
            if region is not None:
                rows, columns = region
                y_min, y_max = _scaled(ys[rows.start], ys[rows.stop], size[0], place[2])
                x_min, x_max = _scaled(xs[columns.start], xs[columns.stop], size[1], place[3])
                regions[name] = (y_min, x_min, y_max, x_max)
            heatmaps[name] = heat.repeat(np.diff(ys), axis=0).repeat(np.diff(xs), axis=1)
        return {"regions": regions, "heatmaps": heatmaps}


def load_classifier(path, compile=True):
    """Loads a `PatchClassifier` in Keras's safe mode.

    Args:
        path: A .keras file, or a run folder, which stands for its last.keras.
        compile: Whether to load loss and optimizer too. Defaults to `True`.

    Returns:
        `PatchClassifier`.

    Raises:
        ValueError: The file is missing, cannot be loaded, or holds another model.
    """
    import keras

    from keras_patchpu.models import PatchClassifier

    path = model_file(path)
    try:
        model = keras.saving.load_model(path, compile=compile)
    except Exception as error:  # of a damaged file Keras raises anything
        raise ValueError(f"{path} cannot be loaded as a Keras model: {error}") from error
    if not isinstance(model, PatchClassifier):
        raise ValueError(
            f"Expected {path} to hold a PatchClassifier. Received: {type(model).__name__}"
        )
    return model


def model_file(path):
    """The .keras file of a path that may be a run folder, or a ValueError if there is none."""
    path = pathlib.Path(path)
    if path.is_dir():
        if not (path / "last.keras").is_file():
            raise ValueError(f"The folder {path} holds no last.keras: it is not a run folder")
        return path / "last.keras"
    if not path.is_file():
        raise ValueError(f"There is no model {path}. Give a .keras file or a run folder")
    return path


def peak_region(heat):
    """Bounding box of the area around the peak of a heat map.

    The area is what is connected to the (first) peak, by edges, through values of at least
    half of the peak.

    Args:
        heat: `(H, W)`, not negative.

    Returns:
        Pair of slices, rows and columns; `None` for a map of zeros.
    """
    from scipy import ndimage

    peak = heat.max()
    if peak <= 0:
        return None
    # Sums of the same numbers in float32 may differ in the last digits.
    areas, _ = ndimage.label(heat >= peak / 2 * (1 - 1e-5))
    (region,) = ndimage.find_objects((areas == areas.flat[heat.argmax()]).astype(int))
    return region


def _with_attention(model):
    """A model of images to probabilities and attention, compiled as one."""
    import keras

    class WithAttention(keras.Model):
        def __init__(self):
            super().__init__()
            self.classifier = model

        def call(self, images):
            outputs = self.classifier.intermediates(images, training=False)
            return outputs["probabilities"], outputs["attention"]

    both = WithAttention()
    both.jit_compile = model.jit_compile
    both.run_eagerly = model.run_eagerly
    return both


def _fitted(image, size, fit):
    """An image as `read_image` makes it, of one that was read at its own size."""
    from PIL import Image

    from keras_patchpu.datasets.read_image import placed

    top, left, height, width = placed(image.shape[:2], size, fit)
    canvas = np.zeros((*size, 3), "uint8")
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    canvas[top : top + height, left : left + width] = np.asarray(resized)
    return canvas


class _Grid:
    """The rectangles that the edges of all patches cut an image into.

    A heat map is constant on each: a map of rectangles says the same as one of pixels, with
    100 numbers for 640x640 pixels of the default patches.
    """

    def __init__(self, patch_boxes, image_size):
        height, width = image_size
        # Rounded to pixels as `attention_heatmap` does.
        edges = np.round(patch_boxes * [height, width, height, width]).astype(int)
        edges[:, 2:] = np.maximum(edges[:, 2:], edges[:, :2] + 1)
        self.ys = np.unique([0, height, *edges[:, [0, 2]].ravel()])
        self.xs = np.unique([0, width, *edges[:, [1, 3]].ravel()])
        self.shape = (len(self.ys) - 1, len(self.xs) - 1)
        rows = np.searchsorted(self.ys, edges[:, [0, 2]]) / self.shape[0]
        columns = np.searchsorted(self.xs, edges[:, [1, 3]]) / self.shape[1]
        self.boxes = np.stack([rows[:, 0], columns[:, 0], rows[:, 1], columns[:, 1]], axis=1)

    def heat(self, attention, place):
        """Attention `(K, P)` on the part of the input where the image lies.

        Returns:
            Heat `(K, R, C)` of rectangles, and their R + 1 and C + 1 edges in pixels from the
            image's upper left corner.
        """
        from keras_patchpu.metrics import attention_heatmap

        top, left, height, width = place
        heat = attention_heatmap(attention, self.boxes, self.shape, fill="same")
        ys = np.clip(self.ys - top, 0, height)
        xs = np.clip(self.xs - left, 0, width)
        heat = heat[:, np.diff(ys) > 0][:, :, np.diff(xs) > 0]
        return heat, np.unique(ys), np.unique(xs)


def _scaled(start, stop, original, fitted):
    """Edges in pixels of the original image, outwards to whole ones."""
    return int(start * original // fitted), int(-(-stop * original // fitted))


# === The command ===


def predict(arguments):
    """The command `patchpu predict`.

    Args:
        arguments: List of strings, without the command's name.

    Raises:
        SystemExit: Code 1 if images could not be read; code 2 and a message on stderr for
            what a user can mend; code 0 after `--help`.
    """
    options = _parser().parse_args(arguments)
    try:
        errors = _predict(options)
    except (ValueError, OSError) as error:
        print(f"patchpu predict: error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    if errors:
        print(f"{len(errors)} images could not be read:", file=sys.stderr)
        for error in errors[:_ERRORS_SHOWN]:
            print(f"  {error}", file=sys.stderr)
        if len(errors) > _ERRORS_SHOWN:
            print("  ... the column `error` has all", file=sys.stderr)
        raise SystemExit(1)


def _parser():
    from jsonargparse import ActionYesNo, ArgumentParser, DefaultHelpFormatter

    parser = ArgumentParser(
        prog="patchpu predict",
        description="Tag images with a trained model. A run that was killed goes on where it "
        "stopped when the same command is given again.",
        formatter_class=DefaultHelpFormatter,
    )
    parser.add_argument("model", type=str, help="A .keras file, or a run folder (last.keras).")
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
        "--overwrite",
        action=ActionYesNo(yes_prefix="", no_prefix="no-"),
        default=False,
        help="Whether to replace the output if it is there.",
    )
    parser.add_argument(
        "--top-k",
        type=int | None,
        default=None,
        help="Tags an image, at most. null: 3, or no limit if the model has thresholds.",
    )
    parser.add_argument("--batch-size", type=int, default=16, help="Images predicted at once.")
    parser.add_argument(
        "--boxes",
        action=ActionYesNo(yes_prefix="", no_prefix="no-"),
        default=False,
        help="Whether to write where each tag is: the box around the area connected to the peak "
        "of its attention with at least half of the peak, in pixels.",
    )
    parser.add_argument(
        "--scores",
        action=ActionYesNo(yes_prefix="", no_prefix="no-"),
        default=True,
        help="Whether to write the probabilities of all labels.",
    )
    parser.add_argument(
        "--overlays",
        type=str | None,
        default=None,
        help="Folder for one PNG an image: the image under the attention of its tags.",
    )
    parser.add_argument(
        "--max-pixels",
        type=int | None,
        default=None,
        help="Larger images are refused. null: 100 million pixels.",
    )
    return parser


def _predict(options):
    """Writes the output and returns the errors of images as strings."""
    output = pathlib.Path(options.output)
    part = output.with_name(output.name + ".part")
    _check_output(output, options.overwrite)
    if options.overlays:
        os.makedirs(options.overlays, exist_ok=True)
    names = list_images(options.images, options.overlays)
    tagger = Tagger(
        options.model,
        options.top_k,
        options.batch_size,
        options.max_pixels,
        attention=options.boxes or bool(options.overlays),
    )
    rows = _Rows(output.suffix, tagger.label_names, options.boxes, options.scores)
    settings = {
        "model": hashlib.sha256(model_file(options.model).read_bytes()).hexdigest(),
        **{name: options[name] for name in ("top_k", "boxes", "scores", "overlays", "max_pixels")},
    }
    _check_settings(part, settings)
    errors = _resume(part, rows, names)
    done, errors = len(errors), [error for error in errors if error]
    if done:
        print(f"{part}: going on after {done} of {len(names)} images")

    pictures = _picture_names(names)[done:] if options.overlays else ()
    started = time.perf_counter()
    with open(part, "a", encoding="utf-8", errors="surrogateescape", newline="") as file:
        if not done:
            rows.write_header(file)
        bar = _progress_bar(len(names) - done)
        for count, found in enumerate(tagger(names[done:]), start=1):
            if found.error:
                errors.append(found.error)
            elif options.overlays:  # before its row: an image with a row has its picture
                picture = os.path.join(options.overlays, pictures[count - 1])
                _write_overlay(picture, found, tagger)
            rows.write(file, found)
            if count % options.batch_size == 0 or count == len(names) - done:
                file.flush()
                rate = count / (time.perf_counter() - started)
                bar.update(count, [("images/s", rate)])
                if options.overlays:
                    gc.collect()  # figures refer to themselves, and would pile up
    os.replace(part, output)
    _settings_file(part).unlink(missing_ok=True)
    print(f"{output}: {len(names)} images, {len(errors)} of them could not be read")
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
    if not output.parent.is_dir():
        raise ValueError(f"There is no folder {output.parent} to write {output.name} into. Make it")
    if output.exists() and not overwrite:
        raise ValueError(
            f"{output} is there already. Give another --output, or --overwrite to replace it"
        )


def list_images(arguments, overlays=None):
    """The images that the arguments of the command stand for.

    Args:
        arguments: Paths of files, folders or tables, and patterns.
        overlays: Folder of the pictures that the command draws; what folders and patterns
            hold of it is left out. Defaults to `None`.

    Returns:
        List of paths, each once, in the order of the arguments and sorted inside each folder
        and pattern.

    Raises:
        ValueError: An argument stands for no image, or a table has no column `image`.
    """
    found = []
    for argument in arguments:
        if os.path.isdir(argument):
            images = _without(overlays, _images_in(argument))
        elif os.path.isfile(argument):
            is_table = argument.lower().endswith((".csv", ".parquet"))
            images = _images_of_table(argument) if is_table else [argument]
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


def _images_of_table(path):
    if path.lower().endswith(".parquet"):
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise ValueError(f"{path}: to read it, `pip install pyarrow`") from error
        columns = parquet.read_schema(path).names
        if "image" in columns:
            images = parquet.read_table(path, columns=["image"]).column("image").to_pylist()
    else:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            images = [row.get("image") for row in reader]
    if "image" not in columns:
        raise ValueError(f"Expected {path} to have a column `image`. Received: {list(columns)}")
    for row, image in enumerate(images, start=1):
        if not image or not isinstance(image, str):
            raise ValueError(f"{path}, row {row}: expected a path in `image`. Received: {image!r}")
    return [os.path.join(os.path.dirname(path), image) for image in images]


class _Rows:
    """Rows of the output, as .csv or .jsonl."""

    def __init__(self, suffix, label_names, boxes, scores):
        self.is_csv = suffix == ".csv"
        self.label_names = label_names
        self.boxes = boxes
        self.scores = scores
        wrong = [name for name in label_names if ";" in name]
        if self.is_csv and wrong:
            raise ValueError(
                "In a .csv tags are separated by ';', so a label cannot have one in its name: "
                f"{wrong}. Give an --output that ends with .jsonl"
            )
        self.header = ["image", "tags", "error"]
        self.header += ["boxes"] * boxes
        self.header += [f"score:{name}" for name in label_names] * scores

    def write_header(self, file):
        if self.is_csv:
            csv.writer(file, lineterminator="\n").writerow(self.header)

    def write(self, file, found):
        boxes = None
        if self.boxes and found.regions is not None:
            boxes = {
                tag: [x_min, y_min, x_max, y_max]
                for tag, (y_min, x_min, y_max, x_max) in found.regions.items()
            }
        scores = None
        if self.scores and found.scores is not None:
            scores = [f"{score:.6f}" for score in found.scores]
        if self.is_csv:
            row = [found.name, ";".join(found.tags), found.error or ""]
            if self.boxes:
                row.append("" if boxes is None else json.dumps(boxes, ensure_ascii=False))
            if self.scores:
                row += scores or [""] * len(self.label_names)
            csv.writer(file, lineterminator="\n").writerow(row)
            return
        row = {"image": found.name, "tags": found.tags, "error": found.error}
        if self.boxes:
            row["boxes"] = boxes
        if self.scores:
            row["scores"] = scores and dict(zip(self.label_names, map(float, scores)))
        file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def whole_rows(self, file):
        """Generator of the image, the error and the end in bytes of rows that were written whole.

        The header, too, for a .csv. `file` is open in binary mode.
        """
        text, end = b"", 0
        for line in file:
            text += line
            # In a .csv a line break may stand in a quoted name.
            if not text.endswith(b"\n") or (self.is_csv and text.count(b'"') % 2):
                continue
            end += len(text)
            row, text = text.decode("utf-8", "surrogateescape"), b""
            if self.is_csv:
                row = next(csv.reader([row]))
                yield (row[0], row[2], end) if len(row) == len(self.header) else (None, None, end)
            else:
                row = json.loads(row)
                yield row["image"], row["error"], end


def _settings_file(part):
    return part.with_name(part.name + ".json")


def _check_settings(part, settings):
    """Rows of one file come from one model and one command."""
    path = _settings_file(part)
    if part.exists():
        saved = json.loads(path.read_text()) if path.exists() else {}
        differing = [name for name, value in settings.items() if saved.get(name, ...) != value]
        if differing:
            raise ValueError(
                f"{part} was left by a run with other settings ({', '.join(differing)}). Delete "
                "it to start anew, or give the command as it was"
            )
    else:
        path.write_text(json.dumps(settings) + "\n")


def _resume(part, rows, names):
    """Cuts an incomplete last row off; returns the error, or "", of each image that is done."""
    errors, kept = [], 0
    if not part.exists():
        return errors
    expected = itertools.chain([rows.header[0]] * rows.is_csv, names)
    with open(part, "r+b") as file:
        for image, error, end in rows.whole_rows(file):
            if image != next(expected, None):
                raise ValueError(
                    f"{part} was left by a run over other images: it has {image!r} as number "
                    f"{len(errors) + 1 - rows.is_csv}. Delete it to start anew"
                )
            errors.append(error or "")
            kept = end
        if len(errors) == rows.is_csv:  # nothing but the header, which is written again
            kept = 0
        file.truncate(kept)
    return errors[rows.is_csv :]


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
    temporary = path + ".tmp"
    figure.savefig(temporary, format="png", dpi=100)
    os.replace(temporary, path)


def _resized(heat, size):
    """A heat map at another size, each pixel the one at its place."""
    rows, columns = (np.arange(wanted) * given // wanted for wanted, given in zip(size, heat.shape))
    return heat[rows][:, columns]
