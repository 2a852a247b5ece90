"""The command `patchpu thresholds`: from which probability on a label is predicted."""

import sys

from patchpu.commands.options import run_command

_ERRORS_SHOWN = 5


def main(arguments):
    run_command(thresholds, arguments)


def thresholds(
    model: str,
    table: str,
    choose: str = "f1",
    at_least: float | None = None,
    batch_size: int = 16,
    max_pixels: int | None = None,
    allow_outside: bool = False,
):
    """Choose from which probability each label is predicted, and store it in the model.

    It is chosen by images with full annotation.

    Args:
        model: A .keras file, or a run folder (its last/model.keras); is written to.
        table: Table of images and all their labels. With a column `split` its validation images
            are taken, else all.
        choose: f1: the best F1. precision: best recall with a precision of --at-least. recall:
            best precision with a recall of --at-least.
        at_least: From 0 to 1.
        batch_size: Images predicted at once.
        max_pixels: Larger images are refused. null: 100 million pixels.
        allow_outside: Whether a table may name images outside its folder.
    """
    from patchpu.prediction.store_thresholds import store_thresholds

    errors = store_thresholds(model, table, choose, at_least, batch_size, max_pixels, allow_outside)
    if errors:
        print(f"{len(errors)} images could not be read and were left out:", file=sys.stderr)
        for unread in errors[:_ERRORS_SHOWN]:
            print(f"  {unread}", file=sys.stderr)
        raise SystemExit(1)
