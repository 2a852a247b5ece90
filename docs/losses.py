"""Writes docs/losses.md from the table of losses.

    python docs/losses.py > docs/losses.md

A test holds the page to the table.
"""

from patchpu.training.losses import LOSSES

HEAD = """\
# Losses

`patchpu train --loss NAME`, or `keras_patchpu.losses` in Python. Made by `docs/losses.py` from the table
`patchpu/training/losses.py`, which all of the tool reads. To add one is a file and a row of that table:
[Write a new loss](howto/new_loss.md).

*Annotated* is a label that the data give, as a rule one an image. Where a loss needs more than that
one, its row says so.

| name | loss | what it does | class | paper |
|---|---|---|---|---|
"""


def page():
    """The text of docs/losses.md."""
    return HEAD + "".join(f"{line(row)}\n" for row in LOSSES.values())


def line(row):
    return f"| `{row.name}` | {row.title} | {row.sentence} | `{class_name(row)}` | {row.paper} |"


def class_name(row):
    return row.path.rsplit(".", 1)[-1]


if __name__ == "__main__":
    print(page(), end="")
