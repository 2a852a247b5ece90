"""Code blocks of Markdown pages."""

import re


def blocks(text, language=""):
    """Contents of the fenced blocks of a language; `""` for blocks that name none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [code for name, code in found if name == language]


def run_python(text, name="page"):
    """Runs the Python blocks of a page in order, as one program, and returns its names.

    The comment behind a `print` must hold what is printed.
    """
    names = {"__name__": "page", "print_and_check": _print_and_check}
    for number, code in enumerate(blocks(text, "python"), start=1):
        code = re.sub(
            r"^( *)print\((.*)\)  # (.*)$",
            lambda found: f"{found[1]}print_and_check({found[3]!r}, {found[2]})",
            code,
            flags=re.MULTILINE,
        )
        exec(compile(code, f"{name}, block {number}", "exec"), names)
    return names


def _print_and_check(comment, *values):
    printed = " ".join(map(str, values))
    assert printed in comment, f"prints {printed}, but the comment says {comment}"
