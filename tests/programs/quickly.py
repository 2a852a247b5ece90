"""`patchpu train` with models that are made in a moment, see `tiny_runs.quick_steps`.

PYTHONPATH=.:tests/helpers python tests/programs/train_quickly.py OPTIONS
"""

import sys

from tiny_runs import quick_steps

from patchpu.__main__ import main

if __name__ == "__main__":
    with quick_steps():
        main(["train", *sys.argv[1:]])
