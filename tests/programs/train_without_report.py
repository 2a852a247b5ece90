"""`patchpu train` without what follows training, which compiles many small programs on JAX.

    python tests/programs/train_without_report.py OPTIONS

The report is empty, and weak negatives are not judged after each epoch.
"""

import sys

from keras_patchpu.cli import train
from keras_patchpu.experiments import run


def no_report(folder, config, model, data, rows):
    return {"val_mAP": rows[-1]["val_mAP"], "epochs": len(rows), "localization": None}


if __name__ == "__main__":
    run.write_report = no_report
    run._negatives_quality = lambda *_: None
    train(sys.argv[1:])
