"""Thresholds chosen for a model, and kept in it."""

import numpy as np

from keras_patchpu.datasets.table import load_table
from keras_patchpu.metrics import choose_thresholds
from keras_patchpu.models.load_classifier import load_classifier, model_file
from keras_patchpu.tagging import Tagger
from keras_patchpu.tagging.tagger import WITH_ATTENTION
from keras_patchpu.utils.whole_files import save_whole


def store_thresholds(
    model_path, table_path, choose, at_least, batch_size, max_pixels, allow_outside
):
    """Chooses thresholds on images with full annotation, stores them in the model, and prints them.

    Args:
        model_path: Path of a .keras file or of a run folder; is written to.
        table_path, allow_outside: As of `load_table`.
        choose, at_least: As of `choose_thresholds`.
        batch_size, max_pixels: As of `Tagger`.

    Returns:
        List of strings: the errors of images that could not be read, which are left out.

    Raises:
        ValueError: An argument is wrong, or model and table do not fit.
    """

    # With dummies, so that a wrong option is told before all images are read.
    choose_thresholds([[1], [-1]], [[1.0], [0.0]], choose, at_least)
    path = model_file(model_path)
    if path.is_dir():
        raise ValueError(
            "Expected a .keras file or a run folder, into which the thresholds can be written. "
            f"Received: {model_path}. Save its model in a file of your own: "
            f'load_classifier("{model_path}").save("model.keras")'
        )
    model = load_classifier(path, kinds=WITH_ATTENTION)
    table = load_table(
        table_path,
        unlisted="absent",
        label_names=model.label_names,
        allow_outside=allow_outside,
    )
    files = table.train if table.validation is None else table.validation
    if len(files.label_names) != model.num_labels:
        raise ValueError(
            f"Expected {table_path} to have the {model.num_labels} labels of the model. "
            f"Received: {len(files.label_names)}, {list(files.label_names)[:10]}"
        )
    tagger = Tagger(model, batch_size=batch_size, max_pixels=max_pixels)
    scores, readable, errors = [], [], []
    for index, found in enumerate(tagger(files.sources)):
        if found.error:
            errors.append(found.error)
        else:
            scores.append(found.scores)
            readable.append(index)
    if not readable:
        raise ValueError(f"None of the {len(errors)} images could be read: {errors[:1]}")
    result = choose_thresholds(files.labels[readable], np.stack(scores), choose, at_least)
    model.thresholds = result["thresholds"].tolist()
    save_whole(path, model)
    print(_table(tagger.label_names, result))
    which = "the images of this table" if table.validation is None else "its validation images"
    print(
        f"\nThe thresholds are stored in {path}. They were chosen on {len(readable)} images, "
        f"{which}: the numbers above are optimistic, since they are scored on the very images "
        "that the thresholds were chosen on."
    )
    return errors


def _table(label_names, result):
    """The result as text, a line a label."""
    width = max(len("label"), *map(len, label_names))
    lines = [f"{'label':{width}}  positives   known  threshold  precision  recall     F1"]
    for index, name in enumerate(label_names):
        numbers = {key: values[index] for key, values in result.items()}
        line = (
            "{:{width}}  {positives:9d}  {known:6d}  {thresholds:9.4f}  {precision:9.3f}  "
            "{recall:6.3f}  {f1:5.3f}  {note}"
        )
        lines.append(line.format(name, width=width, **numbers).rstrip())
    return "\n".join(lines)
