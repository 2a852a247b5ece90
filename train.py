"""`python train.py` is `patchpu train`; see `python train.py --help`."""

import sys

from patchpu.__main__ import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
