"""`python train.py` is `patchpu train`; see `python train.py --help`."""

import sys

from patchpu import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
