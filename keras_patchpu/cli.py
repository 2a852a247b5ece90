"""The commands that `patchpu` hands over to."""

import dataclasses
import signal
import sys

import docstring_parser
import yaml
from jsonargparse import (
    ActionConfigFile,
    ActionYesNo,
    ArgumentParser,
    DefaultHelpFormatter,
)

from keras_patchpu.experiments.config import PRESETS, TrainConfig
from keras_patchpu.experiments.signals import collected_signals
from keras_patchpu.validation import FileError


def parse_train_config(arguments):
    """Settings from the command line.

    Order, later wins: defaults, preset of the data set, `--config` file, options. With
    `--resume` the settings saved in the run folder stand in for preset and defaults.

    Args:
        arguments: List of strings, without the command's name.

    Returns:
        `TrainConfig`. Ends the process with code 2 and a message on a wrong one.
    """
    parser = _train_parser()
    try:
        return _train_config(parser, arguments)
    except (ValueError, OSError):
        raise
    except Exception as error:  # of a wrong tag, as in `!!int x`, PyYAML raises anything
        parser.error(f"the settings cannot be read: {type(error).__name__}: {error}")


def _train_config(parser, arguments):
    # Once for what chooses the defaults, once with them.
    first = parser.parse_args(arguments)
    if first.table is not None:
        arguments = [*arguments, "--dataset", "table"]
        first.dataset = "table"
    defaults = PRESETS[first.dataset]
    if first.resume:
        from keras_patchpu.experiments.run_folder import RunFolder

        folder = first.output or TrainConfig(**_settings(first)).output
        defaults = RunFolder(folder).saved_settings() or defaults
    parser.set_defaults(defaults)
    return TrainConfig(**_settings(parser.parse_args(arguments)))


def _train_parser():
    """One option for each field of `TrainConfig`, documented by its docstring."""
    parser = ArgumentParser(
        prog="patchpu train",
        description="Train on images of which one label each is known, and write a run folder.",
        formatter_class=DefaultHelpFormatter,
    )
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file with settings.")
    helps = {
        item.arg_name: item.description
        for item in docstring_parser.parse_from_object(TrainConfig).params
    }
    for field in dataclasses.fields(TrainConfig):
        name, text = field.name.replace("_", "-"), " ".join(helps[field.name].split())
        kind = {"type": field.type}
        if field.type is bool:
            kind = {"action": ActionYesNo(yes_prefix="", no_prefix="no-")}
        parser.add_argument(f"--{name}", default=field.default, help=text, **kind)
    return parser


def _settings(namespace):
    values = namespace.as_dict()
    values.pop("config", None)
    return values


def train(arguments):
    """The command `patchpu train`.

    Args:
        arguments: List of strings, without the command's name.

    Raises:
        SystemExit: Code 2 and a message on stderr for what a user can mend before anything is
            written; code 1 and a message if training cannot go on; 128 + the number of a signal
            to end, once all is saved; code 0 after `--help`.
    """
    try:
        config = parse_train_config(arguments)
        from keras_patchpu.datasets.read_image import ImageError
        from keras_patchpu.experiments.run import prepare, run

        folder, data = prepare(config)
    except (ValueError, OSError) as error:
        _fail(error, 2)
    print(yaml.safe_dump({"run folder": config.output, **config.settings()}, sort_keys=False))
    try:
        with collected_signals(first_only=True) as stopping:
            report = run(config, folder, data, stopping=stopping)
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except FloatingPointError as error:
        _fail(error, 1)
    except (ImageError, OSError) as error:
        saved = folder.progress()
        what = "nothing of the run is saved" if saved is None else f"the run is saved {saved}"
        _fail(f"{error}\n{what}; go on with --resume --output {config.output}", 1)
    except FileError as error:  # of the run to go on with
        _fail(error, 2)
    if report["val_mAP"] is not None:
        result = f"final val mAP {report['val_mAP']:.4f}"
    else:
        recall = report["observed"]["recall_at"].get(1, 1.0)
        result = f"final recall at 1 of the known labels {recall:.4f}"
    result += f" after epoch {report['epochs']}"
    if report["localization"] is not None:
        peak = report["localization"]["peak_in_box"]
        result += f"; attention's peak in the label's box {peak:.1%}"
    print(f"\n{result}\nreport: {config.output}/report.md")


def _fail(message, code):
    print(f"patchpu train: error: {message}", file=sys.stderr)
    raise SystemExit(code)
