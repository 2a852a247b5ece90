"""From which probability each label is predicted, and the command `patchpu thresholds`."""

import sys
import zipfile
from typing import Any

import numpy as np

from keras_patchpu.command import add_allow_outside, add_max_pixels, user_errors
from keras_patchpu.validation import check_number, check_one_of
from keras_patchpu.whole_files import save_whole

# Keras and what imports it stand inside the functions, so that `--help` is quick.

CHOICES = ("f1", "precision", "recall")
_ERRORS_SHOWN = 5


def choose_thresholds(
    labels: np.ndarray, scores: np.ndarray, choose: str = "f1", at_least: float | None = None
) -> dict[str, Any]:
    """Chooses the score from which each label is predicted.

    A threshold lies midway between the score chosen and the next lower one (or 0), so that
    small changes of the scores do not change what is predicted.

    A label is left at 1.0, practically never predicted, and named by a note, if no image is
    known to have it, if none is known not to have it (then nothing speaks against
    predicting it everywhere), or if no threshold has the wanted precision.

    Args:
        labels: `(N, L)`: above 0 present, below 0 absent, 0 unknown. What is unknown of one
            label is left out for that label. For a full annotation of 0 and 1 give
            `np.where(labels > 0, 1, -1)`.
        scores: `(N, L)` from 0 to 1.
        choose: `"f1"`: the best F1, of equal ones the highest threshold. `"precision"`: the
            lowest threshold whose precision is at least `at_least`, which has the best
            recall. `"recall"`: the highest one whose recall is at least `at_least`.
            Defaults to `"f1"`.
        at_least: Number above 0, up to 1. Defaults to `None`, as `"f1"` wants it.

    Returns:
        Dict of `"thresholds"`, `"precision"`, `"recall"` and `"f1"` at the threshold, float64
        `(L,)`, a ratio of nothing to nothing being 0; `"positives"`, images known to have
        the label, and `"known"`, images of which it is known, integers `(L,)`; and
        `"note"`, L strings, empty where a threshold was found.

    Raises:
        ValueError: Shapes differ, a score is not from 0 to 1, no label is known to be absent
            anywhere, or an argument is out of range.
    """
    from keras_patchpu.metrics.average_precision import check_labels_and_scores

    check_one_of("choose", choose, CHOICES)
    if choose == "f1":
        if at_least is not None:
            raise ValueError(
                f'Expected no `at_least` with choose="f1". Received: at_least={at_least!r}'
            )
    else:
        check_number("at_least", at_least, above=0, maximum=1)
    labels, scores = check_labels_and_scores(labels, scores)
    scores = scores.astype("float64")
    if scores.min() < 0 or scores.max() > 1:
        raise ValueError(
            f"Expected `scores` from 0 to 1. Received: from {scores.min()} to {scores.max()}"
        )
    if not (labels < 0).any():
        raise ValueError(
            "Expected some `labels` below 0, known to be absent; 0 stands for unknown. Received "
            f"values from {labels.min()} to {labels.max()}. If 0 means absent, give "
            "np.where(labels > 0, 1, -1)"
        )
    columns = [
        _choose_threshold(labels[:, label], scores[:, label], choose, at_least)
        for label in range(labels.shape[1])
    ]
    keys = ("thresholds", "precision", "recall", "f1", "positives", "known", "note")
    values = dict(zip(keys, zip(*columns)))
    return {key: value if key == "note" else np.array(value) for key, value in values.items()}


def _choose_threshold(labels, scores, choose, at_least):
    """The values of one label, in the order of the result of `choose_thresholds`."""
    known = labels != 0
    present, scores = labels[known] > 0, scores[known]
    threshold, note = 1.0, ""
    if not present.any():
        note = "no image is known to have it"
    elif present.all():
        note = "no image is known not to have it"
    else:
        chosen = _chosen_score(present, scores, choose, at_least)
        if chosen is None:
            note = f"no threshold has a precision of {at_least:g}"
        else:
            lower = scores[scores < chosen].max(initial=0.0)
            threshold = (lower + chosen) / 2
            if threshold <= lower:  # neighbours in float64, or 0
                threshold = chosen
    predicted = scores >= threshold
    hits, positives = int((predicted & present).sum()), int(present.sum())
    precision = hits / max(1, int(predicted.sum()))
    recall = hits / max(1, positives)
    f1 = 2 * hits / max(1, int(predicted.sum()) + positives)
    return float(threshold), precision, recall, f1, positives, int(known.sum()), note


def _chosen_score(present, scores, choose, at_least):
    """The lowest score that is predicted, or None if the wish cannot be met."""
    from sklearn.metrics import precision_recall_curve

    # Rising thresholds; the curve's last point, nothing predicted, has none.
    precision, recall, candidates = precision_recall_curve(present, scores)
    precision, recall = precision[:-1], recall[:-1]
    if choose == "f1":
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
        # Equal ones may differ in the last digits.
        fitting = f1 >= f1.max() * (1 - 1e-12)
    else:
        fitting = (precision if choose == "precision" else recall) >= at_least
    if not fitting.any():
        return None
    fitting = np.flatnonzero(fitting)
    return candidates[fitting[0 if choose == "precision" else -1]]


# === The command ===


def thresholds(arguments):
    """The command `patchpu thresholds`.

    Args:
        arguments: List of strings, without the command's name.

    Raises:
        SystemExit: Code 1 if images could not be read, which were left out; code 2 and a
            message on stderr for what a user can mend; code 0 after `--help`.
    """
    options = _parser().parse_args(arguments)
    with user_errors("patchpu thresholds"):
        errors = _thresholds(options)
    if errors:
        print(f"{len(errors)} images could not be read and were left out:", file=sys.stderr)
        for unread in errors[:_ERRORS_SHOWN]:
            print(f"  {unread}", file=sys.stderr)
        raise SystemExit(1)


def _parser():
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    parser = ArgumentParser(
        prog="patchpu thresholds",
        description="Choose from which probability each label is predicted, by images with full "
        "annotation, and store it in the model.",
        formatter_class=DefaultHelpFormatter,
    )
    parser.add_argument(
        "model", type=str, help="A .keras file, or a run folder (last.keras); is written to."
    )
    parser.add_argument(
        "table",
        type=str,
        help="Table of images and all their labels. With a column `split` its validation images "
        "are taken, else all.",
    )
    parser.add_argument(
        "--choose",
        type=str,
        default="f1",
        help="f1: the best F1. precision: best recall with a precision of --at-least. recall: "
        "best precision with a recall of --at-least.",
    )
    parser.add_argument("--at-least", type=float | None, default=None, help="From 0 to 1.")
    parser.add_argument("--batch-size", type=int, default=16, help="Images predicted at once.")
    add_max_pixels(parser)
    add_allow_outside(parser)
    return parser


def _thresholds(options):
    """Stores the thresholds and returns the errors of images as strings."""
    from keras_patchpu.datasets.table import load_table
    from keras_patchpu.models import PatchClassifier
    from keras_patchpu.models.load_classifier import load_classifier, model_file
    from keras_patchpu.predict import Tagger

    # With dummies, so that a wrong option is told before all images are read.
    choose_thresholds([[1], [-1]], [[1.0], [0.0]], options.choose, options.at_least)
    path = model_file(options.model)
    if path.is_dir():
        raise ValueError(
            "Expected a .keras file or a run folder, into which the thresholds can be written. "
            f"Received: {options.model}. Save its model in a file of your own: "
            f'load_classifier("{options.model}").save("model.keras")'
        )
    model = load_classifier(path, kinds=PatchClassifier)
    table = load_table(
        options.table,
        unlisted="absent",
        label_names=model.label_names,
        allow_outside=options.allow_outside,
    )
    files = table.train if table.validation is None else table.validation
    if len(files.label_names) != model.num_labels:
        raise ValueError(
            f"Expected {options.table} to have the {model.num_labels} labels of the model. "
            f"Received: {len(files.label_names)}, {list(files.label_names)[:10]}"
        )
    tagger = Tagger(model, batch_size=options.batch_size, max_pixels=options.max_pixels)
    scores, readable, errors = [], [], []
    for index, found in enumerate(tagger(files.sources)):
        if found.error:
            errors.append(found.error)
        else:
            scores.append(found.scores)
            readable.append(index)
    if not readable:
        raise ValueError(f"None of the {len(errors)} images could be read: {errors[:1]}")
    result = choose_thresholds(
        files.labels[readable], np.stack(scores), options.choose, options.at_least
    )
    model.thresholds = result["thresholds"].tolist()
    with zipfile.ZipFile(path) as archive:
        comment = archive.comment  # the progress of the run, without which it goes on wrongly
    save_whole(path, model, comment)
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
