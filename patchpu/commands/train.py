"""The command `patchpu train`: settings from defaults, preset, file and command line."""

import dataclasses

from jsonargparse import ActionConfigFile

from patchpu.commands.options import add_parameter, fail, new_parser
from patchpu.training.config import TrainConfig
from patchpu.training.distribution_options import DistributionOptions
from patchpu.training.presets import default_model, preset
from patchpu.training.run_files import saved_settings
from patchpu.training.setting import help_of


def main(arguments):
    try:
        config, options = _parse(arguments)
    except (ValueError, OSError) as error:
        fail("patchpu train", error)
    train(config, options)


def train(config: TrainConfig, options: DistributionOptions):
    """Train on images of which one label each is known, and write a run folder."""
    from patchpu.training.train_command import train_command

    train_command(config, options)


def parse_train_config(arguments):
    """Settings from the command line.

    Order, later wins: defaults, preset of the data set, `--config` file, options. With
    `--resume` the settings saved in the run folder stand in for preset and defaults.

    Args:
        arguments: List of strings, without the command's name.

    Returns:
        `TrainConfig`. Ends the process with code 2 and a message on a wrong one.
    """
    return _parse(arguments)[0]


def _parse(arguments):
    """Pair of `TrainConfig` and `DistributionOptions`."""
    parser = train_parser()
    # Once for what chooses the defaults, once with them.
    first = _parse_args(parser, arguments)
    if first.table is not None:
        arguments = [*arguments, "--dataset", "table"]
        first.dataset = "table"
    parser.set_defaults({"model": default_model(first.dataset)})
    first = _parse_args(parser, arguments)
    defaults = preset(first.dataset, first.model)
    if first.resume:
        folder = first.output or _fill(TrainConfig, first).output
        defaults = saved_settings(folder) or defaults
    parser.set_defaults(defaults)
    values = _parse_args(parser, arguments)
    return _fill(TrainConfig, values), _fill(DistributionOptions, values)


def _parse_args(parser, arguments):
    try:
        values = parser.parse_args(arguments)
        if "__path__" in values:  # the parser lets it through, for a use of its own
            raise ValueError("__path__ is no setting")
        return values
    except Exception as error:  # of a wrong tag, as in `!!int x`, PyYAML raises anything
        parser.error(f"the settings cannot be read: {type(error).__name__}: {error}")


def train_parser():
    """A parser with an option for each field of both."""
    parser = new_parser(train)
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file with settings.")
    for kind in (TrainConfig, DistributionOptions):
        for field in dataclasses.fields(kind):
            choices = field.metadata["choices"]
            options = {"choices": list(choices)} if choices else {}
            options |= {"default": field.default, "help": help_of(field)}
            add_parameter(parser, field.name, field.type, **options)
    return parser


def _fill(kind, values):
    return kind(**{field.name: values[field.name] for field in dataclasses.fields(kind)})
