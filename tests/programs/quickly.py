"""A command of `patchpu` with models that are made in a moment, see `tiny_runs.quick_steps`.

PYTHONPATH=.:tests/helpers python tests/programs/quickly.py COMMAND OPTIONS
"""

import sys

from tiny_runs import quick_steps
from without_xla import leave_xla_off

from patchpu.__main__ import main

if __name__ == "__main__":
    leave_xla_off()
    with quick_steps():
        main(sys.argv[1:])
