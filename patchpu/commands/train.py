"""The commands that `patchpu` hands over to."""

import dataclasses
import os
import re
import signal
import sys
import traceback
import zlib

import docstring_parser
import yaml
from jsonargparse import (
    ActionConfigFile,
    ArgumentParser,
    DefaultHelpFormatter,
)

from keras_patchpu.utils.validation import FileError
from patchpu.commands.options import add_flag
from patchpu.training.config import PRESETS, TrainConfig
from patchpu.training.signals import collected_signals

_DISTRIBUTION = ("distribute", "coordinator", "processes", "rank")


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
    """Pair of `TrainConfig` and dict of the options of `_add_distribution_options`."""
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
        from patchpu.training.run_folder import RunFolder

        folder = first.output or TrainConfig(**_settings(first)).output
        defaults = RunFolder(folder).saved_settings() or defaults
    parser.set_defaults(defaults)
    options = parser.parse_args(arguments)
    config = TrainConfig(**_settings(options))
    return config, _checked_distribution({name: options[name] for name in _DISTRIBUTION})


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
        if field.type is bool:
            add_flag(parser, name, text, field.default)
        else:
            parser.add_argument(f"--{name}", type=field.type, default=field.default, help=text)
    _add_distribution_options(parser)
    return parser


def _add_distribution_options(parser):
    """How the run is computed: no settings of it, since its results are the same."""
    add_flag(
        parser,
        "distribute",
        "Train on all devices of this machine (KERAS_BACKEND=jax). --batch-size is over all.",
    )
    parser.add_argument(
        "--coordinator",
        type=str | None,
        default=None,
        help="HOST:PORT where the process of rank 0 listens, to train on several machines: the "
        "same command on each, but for --rank.",
    )
    parser.add_argument("--processes", type=int, default=1, help="Number of processes.")
    parser.add_argument(
        "--rank", type=int, default=0, help="Number of this process; 0 writes the run folder."
    )


def _checked_distribution(options):
    processes, rank = options["processes"], options["rank"]
    if not options["distribute"] and (options["coordinator"] or processes != 1 or rank):
        raise ValueError("Expected --distribute with --coordinator, --processes and --rank.")
    if (options["coordinator"] is None) != (processes == 1):
        raise ValueError(
            "Expected --coordinator HOST:PORT with --processes of 2 or more. Received: "
            f"coordinator={options['coordinator']}, processes={processes}"
        )
    if not 0 <= rank < processes:
        raise ValueError(
            f"Expected --rank from 0 to {processes - 1}, one below --processes. Received: {rank}"
        )
    if processes > 1 and not re.fullmatch(r".+:\d{1,5}", options["coordinator"]):
        raise ValueError(f"Expected --coordinator HOST:PORT. Received: {options['coordinator']!r}")
    return options


def _settings(namespace):
    values = namespace.as_dict()
    for name in ("config", *_DISTRIBUTION):
        values.pop(name, None)
    return values


def main(arguments):
    """The command `patchpu train`.

    Args:
        arguments: List of strings, without the command's name.

    Raises:
        SystemExit: Code 2 and a message on stderr for what a user can mend before anything is
            written; code 1 and a message if training cannot go on; 128 + the number of a signal
            to end, once all is saved; code 0 after `--help`.
    """
    try:
        config, options = _parse(arguments)
        from keras_patchpu.datasets.read_image import ImageError
        from keras_patchpu.utils import distribution
        from patchpu.training.run import prepare, run

        if options.pop("distribute"):
            distribution.start(config.batch_size, **options)
        folder, data = _prepared(prepare, config)
    except (ValueError, OSError) as error:
        _fail(error, 2, in_all=True)
    except Exception as error:
        _fail_together(error, "Start all processes again")
    if folder.writes:
        print(yaml.safe_dump({"run folder": config.output, **config.settings()}, sort_keys=False))
    try:
        with collected_signals(first_only=True) as stopping:
            report = run(config, folder, data, stopping=stopping)
    except KeyboardInterrupt:
        _end(128 + signal.SIGINT)
    except FloatingPointError as error:
        _fail(error, 1)
    except (ImageError, OSError) as error:
        saved = folder.progress()
        what = "nothing of the run is saved" if saved is None else f"the run is saved {saved}"
        _fail(f"{error}\n{what}; go on with --resume --output {config.output}", 1)
    except FileError as error:  # of the run to go on with
        _fail(error, 2)
    except Exception as error:
        advice = f"Go on from the last checkpoint with --resume --output {config.output}"
        _fail_together(error, f"{advice}, in all processes")
    if report is None:
        return
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


def _prepared(prepare, config):
    """What `prepare` gives, once all processes that train together have the same of it."""
    import numpy as np

    from keras_patchpu.utils import distribution

    try:
        result, problem = prepare(config), None
        content = config.to_yaml().encode() + np.ascontiguousarray(result[1].observed).tobytes()
    except Exception as error:
        problem, content = error, b""
    distribution.wait_for_all()
    failed = distribution.gathered(int(problem is not None))
    digests = distribution.gathered(zlib.crc32(content) >> 1)
    if problem is not None:
        raise problem
    if any(failed):
        raise ValueError(f"The process of rank {failed.index(1)} cannot begin; see its message")
    if len(set(digests)) > 1:
        raise ValueError("Expected the same settings and labels in all processes. They differ")
    return result


def _fail_together(error, advice):
    """Ends a process that trains with others; raises what happened to one that does not."""
    distribution = sys.modules.get("keras_patchpu.utils.distribution")
    if distribution is None or distribution.num_processes() == 1:
        raise error
    traceback.print_exc()
    _fail(
        "the processes cannot go on together; if this one has no fault, another has ended: "
        f"{type(error).__name__}, see above\n{advice}",
        1,
    )


def _fail(message, code, in_all=False):
    print(f"patchpu train: error: {message}", file=sys.stderr)
    _end(code, in_all)


def _end(code, in_all=False):
    """Ends the process; at once, where others wait for it and do not end by themselves."""
    distribution = sys.modules.get("keras_patchpu.utils.distribution")
    if not in_all and distribution is not None and distribution.num_processes() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # the usual way first waits for the others, for minutes
    raise SystemExit(code)
