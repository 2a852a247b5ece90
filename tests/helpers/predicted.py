"""Runs of `patchpu predict`, and what they wrote."""

import csv
import json

from patchpu.commands.predict import main


def run(*arguments):
    """Exit code of the command."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        return stopped.code
    return 0


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        if path.suffix == ".csv":
            return list(csv.DictReader(file))
        return [json.loads(line) for line in file]


class Killed(BaseException):
    pass
