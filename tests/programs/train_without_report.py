"""`patchpu train` without what follows training, which compiles many small programs on JAX.

    python tests/programs/train_without_report.py OPTIONS

The report is empty, and weak negatives are not judged after each epoch. Each process leaves the
scores of the last epoch in FOLDER of the environment's SCORES, as RANK.npy.
"""

import os
import sys

import numpy as np

from keras_patchpu.callbacks import Evaluation
from keras_patchpu.utils import distribution
from patchpu.commands.train import main
from patchpu.training import callbacks, run


class Noting(Evaluation):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        np.save(os.path.join(os.environ["SCORES"], f"{distribution.rank()}.npy"), self.scores)


def no_report(folder, config, model, data, rows, seen):
    return {"val_mAP": rows[-1]["val_mAP"], "epochs": len(rows), "localization": None}


if __name__ == "__main__":
    run.write_report = no_report
    callbacks.Evaluation = Noting
    run.make_quality = lambda *_: None
    main(sys.argv[1:])
