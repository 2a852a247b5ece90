"""What the commands share: options from a function's signature and docstring, and how they fail."""

import inspect
import sys

import docstring_parser
from jsonargparse import ActionYesNo, ArgumentParser, DefaultHelpFormatter


def run_command(function, arguments, errors=()):
    """Parses the arguments of a command, and calls the function that it is.

    Args:
        function: The command, named as it is typed. Its parameters become arguments and options,
            see `add_parameters`; its docstring is the help.
        arguments: List of strings, without the command's name.
        errors: Further classes of exceptions that a user can mend. Defaults to `()`.

    Raises:
        SystemExit: Code 2 and a message on stderr for a `ValueError`, an `OSError` or one of
            `errors`; code 0 after `--help`.
    """
    parser = new_parser(function)
    add_parameters(parser, function)
    values = parser.parse_args(arguments).as_dict()
    try:
        function(**values)
    except (ValueError, OSError, *errors) as error:
        fail(parser.prog, error)


def fail(program, message, code=2):
    """Ends the process with a message on stderr."""
    print(f"{program}: error: {message}", file=sys.stderr)
    raise SystemExit(code)


def new_parser(function):
    """A parser named after a function, with the description of its docstring."""
    text = docstring_parser.parse_from_object(function)
    description = " ".join(filter(None, [text.short_description, text.long_description]))
    return ArgumentParser(
        prog=f"patchpu {function.__name__}",
        description=" ".join(description.split()),
        formatter_class=DefaultHelpFormatter,
    )


def add_parameters(parser, function):
    """An argument for each parameter without a default, an option for each with one.

    `batch_size` becomes `--batch-size`; a boolean `--boxes` or `--no-boxes`; a list takes one or
    more values.

    Args:
        parser: `ArgumentParser`.
        function: Function with annotations and a docstring.
    """
    text = docstring_parser.parse_from_object(function)
    helps = {item.arg_name: " ".join(item.description.split()) for item in text.params}
    for name, parameter in inspect.signature(function).parameters.items():
        options = {"help": helps[name]}
        if parameter.default is not parameter.empty:
            options["default"] = parameter.default
        add_parameter(parser, name, parameter.annotation, **options)


def add_parameter(parser, name, annotation, **options):
    """An argument of a type, or an option if a default is among what `add_argument` is to get."""
    if annotation is bool:
        options["action"] = ActionYesNo(yes_prefix="", no_prefix="no-")
    elif annotation in (list[str], list[str] | None):
        options |= {"type": str, "nargs": "+"}
    else:
        options["type"] = annotation
    parser.add_argument(f"--{name.replace('_', '-')}" if "default" in options else name, **options)
