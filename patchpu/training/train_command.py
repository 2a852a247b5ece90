"""What `patchpu train` does once it knows the settings: train, say what came out, end.

Imported after the command line is parsed: it imports Keras.
"""

import os
import signal
import sys
import traceback
import zlib

import numpy as np
import yaml

from keras_patchpu.datasets.read_image import ImageError
from keras_patchpu.utils import distribution
from keras_patchpu.utils.validation import FileError
from patchpu.training.run import prepare, run
from patchpu.training.signals import collected_signals


def train_command(config, options):
    """Trains, and prints settings and result.

    Args:
        config: `TrainConfig`.
        options: `DistributionOptions`.

    Raises:
        SystemExit: Code 2 and a message on stderr for what a user can mend before anything is
            written; code 1 and a message if training cannot go on; 128 + the number of a signal
            to end, once all is saved.
    """
    try:
        if options.distribute:
            distribution.start(
                config.batch_size, options.coordinator, options.processes, options.rank
            )
        folder, data = _prepared(config)
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
    if report is not None:
        print(f"\n{_result(report)}\nreport: {config.output}/report.md")


def _prepared(config):
    """What `prepare` gives, once all processes that train together have the same of it."""
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


def _result(report):
    """The last words of a run."""
    if report["val_mAP"] is not None:
        result = f"final val mAP {report['val_mAP']:.4f}"
    else:
        recall = report["observed"]["recall_at"].get(1, 1.0)
        result = f"final recall at 1 of the known labels {recall:.4f}"
    result += f" after epoch {report['epochs']}"
    if report["localization"] is not None:
        peak = report["localization"]["peak_in_box"]
        result += f"; attention's peak in the label's box {peak:.1%}"
    return result


def _fail_together(error, advice):
    """Ends a process that trains with others; raises what happened to one that does not."""
    if distribution.num_processes() == 1:
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
    if not in_all and distribution.num_processes() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # the usual way first waits for the others, for minutes
    raise SystemExit(code)
