"""The README for a package index, where its relative links and pictures would lead nowhere.

All else is in setup.cfg.
"""

import pathlib
import re

import setuptools


def without_relative_links(text):
    """Markdown whose links to files of this repository are their words alone.

    Pictures go, with the line in italics below them.
    """
    text = re.sub(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n+(\*[^*]+\*\n+)?", "", text)
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]*\)", r"\1", text)


if __name__ == "__main__":
    readme = pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    setuptools.setup(
        long_description=without_relative_links(readme),
        long_description_content_type="text/markdown",
    )
