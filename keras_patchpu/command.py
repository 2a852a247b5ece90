"""What the commands of `patchpu` have in common: how they fail, and options of the same name."""

import contextlib
import sys

# jsonargparse stands inside the functions, so that `--help` is quick.


@contextlib.contextmanager
def user_errors(command, *kinds):
    """Ends the process with code 2 and a message on stderr for what a user can mend.

    Args:
        command: Name of the command, such as `"patchpu predict"`.
        *kinds: Classes of exceptions, besides `ValueError` and `OSError`.

    Raises:
        SystemExit: Code 2, for an exception of these kinds inside the `with` block.
    """
    try:
        yield
    except (ValueError, OSError, *kinds) as error:
        print(f"{command}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def add_flag(parser, name, help, default=False):
    """An option that is given as `--name` or `--no-name`."""
    from jsonargparse import ActionYesNo

    parser.add_argument(
        f"--{name}", action=ActionYesNo(yes_prefix="", no_prefix="no-"), default=default, help=help
    )


def add_overwrite(parser):
    """The option `--overwrite` of commands that write a file."""
    add_flag(parser, "overwrite", "Whether to replace the output if it is there.")


def add_max_pixels(parser):
    """The option `--max-pixels` of commands that read images."""
    parser.add_argument(
        "--max-pixels",
        type=int | None,
        default=None,
        help="Larger images are refused. null: 100 million pixels.",
    )


def add_allow_outside(parser):
    """The option `--allow-outside` of commands that read tables."""
    add_flag(parser, "allow-outside", "Whether a table may name images outside its folder.")
