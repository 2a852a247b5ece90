"""Many runs from one YAML file: rows of settings, times seeds."""

import argparse
import dataclasses
import itertools
import json
import pathlib
import re

import yaml
from jsonargparse import ArgumentParser

from keras_patchpu.utils.validation import check_positive_integer
from patchpu.training.config import TrainConfig
from patchpu.training.presets import PRESETS, default_model, preset

_KEYS = ("dataset", "settings", "runs", "grid", "seeds")
# Settings that a grid gives in its own way: at the top, by its seeds, by its folder.
_TAKEN = ("dataset", "seed", "output", "resume")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]*")  # is a folder's name, too


@dataclasses.dataclass(frozen=True)
class GridRun:
    """One run of a grid: its row's name, its seed, and all settings as a `TrainConfig`."""

    name: str
    seed: int
    config: TrainConfig

    @property
    def folder_name(self):
        return f"{self.name}-seed{self.seed}"


@dataclasses.dataclass(frozen=True)
class Grid:
    """Rows of settings, each to be run with every seed.

    Attributes:
        dataset: Data set of all runs.
        rows: Dict from a row's name to its `TrainConfig`, in the order of the file.
        seeds: Tuple of integers.
    """

    dataset: str
    rows: dict
    seeds: tuple

    def run(self, name, seed):
        """The `GridRun` of a row and a seed."""
        return GridRun(name, seed, dataclasses.replace(self.rows[name], seed=seed, output=None))

    def runs(self, rows=None, seeds=None):
        """The runs, seed by seed: a whole table stands after the first seed already.

        Args:
            rows: Names of rows. Defaults to `None`: all.
            seeds: Integers. Defaults to `None`: those of the grid.

        Returns:
            List of `GridRun`.

        Raises:
            ValueError: There is no such row, or a seed is wrong or given twice.
        """
        names = list(self.rows) if rows is None else list(rows)
        unknown = [name for name in names if name not in self.rows]
        if unknown or not names or len(set(names)) < len(names):
            raise ValueError(
                f"Expected rows to be some of {list(self.rows)}, each once. Received: {names}"
            )
        seeds = self.seeds if seeds is None else _check_seeds(seeds)
        return [self.run(name, seed) for seed in seeds for name in names]


def read_grid(path, data_dir=None):
    """Reads a grid and checks every run of it.

    Keys of the file, all but one of `runs` and `grid` optional:

    - `dataset`: of all runs, chooses the preset. Default: digits.
    - `settings`: settings of `TrainConfig` for all runs.
    - `runs`: list of rows, each a mapping of `name` and settings that win over `settings`.
    - `grid`: mapping from settings to lists of values. Every row is run with each combination
      of them, and named after it: `theta=0.25`.
    - `seeds`: list of integers. Default: 0, 1, 2.

    Args:
        path: Path of the YAML file, or what `importlib.resources.files` gives.
        data_dir: Overrides the setting of this name. Defaults to `None`.

    Returns:
        `Grid`.

    Raises:
        ValueError: The file is not such a one, a setting is unknown or wrong, or two runs are
            the same.
    """
    path = path if hasattr(path, "read_text") else pathlib.Path(path)
    try:
        values = _read(path)
        settings = _rows(values, {} if data_dir is None else {"data_dir": data_dir})
        rows = _configs(values["dataset"], settings)
        grid = Grid(values["dataset"], rows, _check_seeds(values.get("seeds", [0, 1, 2])))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error
    return grid


def _read(path):
    text = path.read_text(encoding="utf-8")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        raise
    except Exception as error:  # of a wrong tag, such as `!!int x`, PyYAML raises anything
        raise ValueError(f"cannot be read as YAML: {type(error).__name__}: {error}") from error
    _check_mapping("a grid", values)
    _check_keys("a grid", values, _KEYS)
    values = {"dataset": "digits", **values}
    if values["dataset"] not in list(PRESETS):
        raise ValueError(
            f"Expected `dataset` to be one of {list(PRESETS)}. Received: {values['dataset']!r}"
        )
    return values


def _rows(values, overriding):
    """Dict from names to settings, the product of `grid` taken."""
    common = _check_settings("settings", values.get("settings", {}))
    lists = _check_settings("grid", values.get("grid", {}))
    for name, choices in lists.items():
        if not isinstance(choices, list) or not choices:
            raise ValueError(
                f"Expected `{name}` of `grid` to be a list of values. Received: {choices!r}"
            )
    rows = values.get("runs", [{}] if lists else None)
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"Expected `runs` to be a list of rows, or a `grid`. Received: {rows!r}")
    found = {}
    for number, row in enumerate(rows, start=1):
        _check_mapping(f"row {number} of `runs`", row)
        name = row.get("name")
        if "runs" in values and not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise ValueError(
                f"Expected row {number} of `runs` to have a `name` of letters, digits and any of "
                f"'._=+-'. Received: {name!r}"
            )
        own = {key: value for key, value in row.items() if key != "name"}
        _check_settings(f"row {name!r}", own)
        both = sorted({*lists} & ({*common} | {*own}))
        if both:
            raise ValueError(f"{', '.join(both)}: given by `grid` and beside it")
        for choice in itertools.product(*lists.values()):
            chosen = dict(zip(lists, choice))
            parts = [f"{key}={_text(value)}" for key, value in chosen.items()]
            whole = "+".join([name, *parts] if name else parts)
            if whole in found:
                raise ValueError(f"two rows are named {whole!r}")
            if not _NAME.fullmatch(whole):
                raise ValueError(f"a row would be named {whole!r}, which is no name of a folder")
            found[whole] = {**common, **own, **chosen, **overriding}
    return found


def _text(value):
    return value if isinstance(value, str) else json.dumps(value)


def _configs(dataset, rows):
    """Dict from names to `TrainConfig`, checked, no two of them the same run."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TrainConfig)
    found, names = {}, {}
    for name, settings in rows.items():
        try:
            defaults = {"model": default_model(dataset), **settings}
            defaults |= preset(dataset, defaults["model"])
            found[name] = _config(parser, {"dataset": dataset, **defaults, **settings})
        except ValueError as error:
            raise ValueError(f"row {name!r}: {error}") from error
        first = names.setdefault(found[name].to_yaml(), name)
        if first != name:
            raise ValueError(f"rows {first!r} and {name!r} are the same run")
    return found


def _config(parser, settings):
    try:
        return TrainConfig(**parser.parse_object(settings).as_dict())
    except argparse.ArgumentError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("Expected plain values. Received one that holds itself") from error


def _check_seeds(seeds):
    if not isinstance(seeds, (list, tuple)) or not seeds:
        raise ValueError(f"Expected `seeds` to be a list of integers. Received: {seeds!r}")
    for seed in seeds:
        check_positive_integer("seeds", seed, minimum=0)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"Expected each of `seeds` once. Received: {seeds}")
    return tuple(seeds)


def _check_settings(what, values):
    """Returns the settings, where all of them are the grid's to give."""
    _check_mapping(what, values)
    taken = [name for name in values if name in _TAKEN]
    if taken:
        raise ValueError(
            f"{what}: {', '.join(taken)}: not to be given here; the data set stands at the top, "
            "and `seeds` and the folder of the grid give the rest"
        )
    known = [field.name for field in dataclasses.fields(TrainConfig) if field.name not in _TAKEN]
    _check_keys(what, values, known)
    return values


def _check_mapping(what, values):
    if not isinstance(values, dict):
        raise ValueError(f"Expected {what} to be a mapping. Received: {values!r}")


def _check_keys(what, values, known):
    unknown = [str(key) for key in values if key not in known]
    if unknown:
        raise ValueError(
            f"{what}: unknown: {', '.join(unknown)}. Expected some of: {', '.join(known)}"
        )
