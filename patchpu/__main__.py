"""The command `patchpu`. Answers what needs no framework at once, and hands over the rest."""

import importlib
import sys

# The commands, each a module of its own in `patchpu/commands`, with what help says of it.
COMMANDS = {
    "train": "train on images of which one label each is known",
    "inspect": "look over your own images and labels",
    "thresholds": "choose from which probability on a label is predicted",
    "predict": "tag images, and show where the tags are",
    "demo": "open a page in the browser to try a model on",
    "export": "write a model as ONNX, LiteRT, SavedModel",
    "card": "write a model card to share a model with",
    "table1": "run the paper's Table 1, or another grid",
}


def main(arguments=None):
    """Runs one command.

    Args:
        arguments: List of strings, the command's name first. Defaults to `None`: those of
            the process.

    Raises:
        SystemExit: Code 0 after help or the version; code 2 and a message on stderr for
            what a user can mend.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    wanted, rest = (arguments[0], arguments[1:]) if arguments else ("no command", [])
    if wanted in COMMANDS:
        importlib.import_module(f"patchpu.commands.{wanted}").main(rest)
    elif wanted in ("-h", "--help"):
        print(_usage())
    elif wanted == "--version":
        from importlib import metadata

        print(f"patchpu {metadata.version('keras_patchpu')}")
    else:
        print(_usage(), file=sys.stderr)
        print(f"patchpu: error: expected a command. Received: {wanted}", file=sys.stderr)
        raise SystemExit(2)


def _usage():
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    return (
        "usage: patchpu COMMAND [options]\n"
        "       patchpu [COMMAND] --help\n"
        "       patchpu --version\n\n"
        f"{commands}"
    )


if __name__ == "__main__":
    main()
