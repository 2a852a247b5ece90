"""Rows of the file that `patchpu predict` writes, and how a killed run goes on with it."""

import csv
import dataclasses
import io
import itertools
import json

_ERRORS_SHOWN = 5


class Errors:
    """How many images could not be read, and why the first could not."""

    def __init__(self):
        self.count = 0
        self.first = []

    def add(self, error):
        self.count += 1
        if len(self.first) < _ERRORS_SHOWN:
            self.first.append(error)


class Rows:
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

    def header_line(self):
        """The header as bytes; none for .jsonl."""
        text = io.StringIO()
        if self.is_csv:
            csv.writer(text, lineterminator="\n").writerow(self.header)
        return text.getvalue().encode("utf-8", "surrogateescape")

    def write_header(self, file):
        file.write(self.header_line().decode("utf-8", "surrogateescape"))

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
                try:
                    row = json.loads(row)
                    row = row["image"], row["error"]
                except (KeyError, TypeError, ValueError):
                    row = None, None
                yield *row, end


def settings_file(part):
    return part.with_name(part.name + ".json")


def check_settings(part, settings):
    """Rows of one file come from one model and one command."""
    path = settings_file(part)
    if part.exists():
        try:
            saved = dict(json.loads(path.read_text()))
        except (OSError, TypeError, ValueError):  # missing or damaged
            saved = {}
        differing = [name for name, value in settings.items() if saved.get(name, ...) != value]
        if differing:
            raise ValueError(
                f"{part} was left by a run with other settings ({', '.join(differing)}). Delete "
                "it to start anew, or give the command as it was"
            )
    else:
        path.write_text(json.dumps(settings) + "\n")


def resume(part, rows, names):
    """Cuts an incomplete last row off; returns how many images are done, and their errors."""
    errors, count, kept = Errors(), 0, 0
    if not part.exists():
        return 0, errors
    expected = itertools.chain([rows.header[0]] * rows.is_csv, names)
    with open(part, "r+b") as file:
        for image, error, end in rows.whole_rows(file):
            if image != next(expected, None):
                raise ValueError(
                    f"{part} was left by a run over other images: it has {image!r} as number "
                    f"{count + 1 - rows.is_csv}. Delete it to start anew"
                )
            if error and (count or not rows.is_csv):  # the header has the word "error" there
                errors.add(error)
            count += 1
            kept = end
        if count == rows.is_csv:  # nothing but the header, which is written again
            kept = 0
        file.truncate(kept)
    return max(0, count - rows.is_csv), errors


def csv_text(found, given, label_names):
    """The file that `patchpu predict` writes, of one image.

    Args:
        found: `Tags`; its tags are left out.
        given: Numbers of the labels that are its tags.
        label_names: L strings.

    Returns:
        String of the header and one row.

    Raises:
        ValueError: A label has a `;` in its name.
    """
    rows, file = Rows(".csv", label_names, boxes=False, scores=True), io.StringIO()
    rows.write_header(file)
    rows.write(file, dataclasses.replace(found, tags=[label_names[label] for label in given]))
    return file.getvalue()
