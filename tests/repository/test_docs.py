"""The documentation tells the truth: its code runs, its commands parse, its files exist."""

import importlib
import pathlib
import re
import shlex

import pytest
import yaml
from code_blocks import blocks, run_python
from hub import Hub
from tiny_runs import one_block

from patchpu.__main__ import COMMANDS
from patchpu.commands.options import add_parameters, new_parser
from patchpu.commands.train import parse_train_config

pytestmark = pytest.mark.no_backend

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
WITH_CODE = [page for page in PAGES if blocks((DOCS / page).read_text(), "python")]
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
GUIDES += [ROOT / "tests" / "README.md"]
GUIDES += [DOCS / page for page in PAGES if page != "reliability.md"]  # has a test of its own
ROOMS = sorted(
    path.parent.name
    for path in (ROOT / "keras_patchpu").glob("*/__init__.py")
    if path.parent.name != "utils"  # for the package's own use
)


@pytest.mark.docs
@pytest.mark.parametrize("page", WITH_CODE)
def test_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if page == "howto/sharing.md":
        Hub(tmp_path / "hub", monkeypatch)
    if page == "howto/experiment_logs.md":  # about callbacks, whatever the model
        one_block(monkeypatch.setattr)
    run_python((DOCS / page).read_text(), page)


@pytest.mark.docs
def test_code_with_mlflow_runs(tmp_path, monkeypatch):
    """The block of its page that is marked `py`: MLflow is no dependency."""
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "howto" / "experiment_logs.md").read_text()
    run_python(text.replace("```py\n", "```python\n"), "experiment_logs.md")


def test_a_comment_that_does_not_hold_what_is_printed_is_seen():
    run_python("```python\nprint(1 + 1, [3])  # so: 2 [3], as said\n```\n")
    with pytest.raises(AssertionError, match="prints 3, but the comment says 2"):
        run_python("```python\nprint(1 + 2)  # 2\n```\n")


def commands():
    """The arguments of every `patchpu` and `train.py` in a block for the shell."""
    lines = [
        (path.name, line.split("&&")[-1].strip())
        for path in GUIDES
        for block in blocks(path.read_text())
        for line in block.splitlines()
    ]
    for page, line in lines:
        words = shlex.split(line, comments=True)
        if words[:1] == ["patchpu"]:
            yield page, words[1], words[2:]
        elif words[:2] == ["python", "train.py"]:
            yield page, "train", words[2:]


def parse(command, arguments):
    """Ends with `SystemExit`, as the command does, if it has no such options."""
    if command == "train":
        parse_train_config(arguments)
    else:
        function = getattr(importlib.import_module(f"patchpu.commands.{command}"), command)
        parser = new_parser(function)
        add_parameters(parser, function)
        parser.parse_args(arguments)


@pytest.mark.parametrize(
    "page, command, arguments", [pytest.param(*c, id=" ".join((*c[:2], *c[2]))) for c in commands()]
)
def test_commands_have_these_options(page, command, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # without anybody's run folders
    assert command in COMMANDS
    if "--config" in arguments and command == "train":  # would be read
        at = arguments.index("--config")
        arguments = arguments[:at] + arguments[at + 2 :]
    if arguments != ["--help"]:
        parse(command, arguments)


@pytest.mark.parametrize(
    "command, arguments", [("predict", ["model", "photos", "--frames"]), ("train", ["--frames"])]
)
def test_an_option_that_does_not_exist_is_seen(command, arguments):
    with pytest.raises(SystemExit, match="2"):
        parse(command, arguments)


def test_every_page_is_in_the_navigation():
    # `!relative` is MkDocs's own.
    text = (ROOT / "mkdocs.yml").read_text().replace("!relative ", "")
    listed = []

    def collect(item):
        if isinstance(item, str):
            listed.append(item)
        else:
            for value in item.values() if isinstance(item, dict) else item:
                collect(value)

    collect(yaml.safe_load(text)["nav"])
    assert sorted(listed) == PAGES


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(path):
    text = path.read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (path.parent / link).exists()] == []
    named = re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|csv|md|ipynb|yaml))(?:::[\w]+)?`", text)
    missing = [
        name for name in named if not any((base / name).exists() for base in (ROOT, ROOT / "tests"))
    ]
    assert missing == []


def documented():
    """Names, with their modules, that the pages of `docs/api` show."""
    for path in (DOCS / "api").glob("*.md"):
        for name, options in re.findall(
            r"^::: (.*)\n((?: +.*\n)*)", path.read_text(), flags=re.MULTILINE
        ):
            members = re.search(r"members: \[(.*)\]", options)
            if members:
                yield from (f"{name}.{member}" for member in members[1].split(", "))
            elif (ROOT / name.replace(".", "/")).is_dir():
                files = {path.stem for path in (ROOT / name.replace(".", "/")).glob("*.py")}
                # Functions named as their files are taken for modules.
                shown = set(importlib.import_module(name).__all__) - files
                yield from (f"{name}.{member}" for member in shown)
            elif (ROOT / f"{name.replace('.', '/')}.py").exists():
                module = importlib.import_module(name)
                yield from (f"{name}.{member}" for member in vars(module))
            else:
                yield name


@pytest.mark.parametrize("room", ROOMS)
def test_all_that_is_public_is_in_the_api(room):
    module = importlib.import_module(f"keras_patchpu.{room}")
    shown = {name.split(".")[-1] for name in documented() if name.startswith(f"{module.__name__}.")}
    assert set(module.__all__) - shown == set()


def test_the_api_shows_what_exists():
    for name in documented():
        module, _, member = name.rpartition(".")
        assert hasattr(importlib.import_module(module), member), name


def test_snippets_are_there():
    for page in PAGES:
        for name in re.findall(r'^--8<-- "(.*)"$', (DOCS / page).read_text(), re.MULTILINE):
            file, _, section = name.partition(":")
            text = (ROOT / file).read_text()
            for mark in ("start", "end") if section else ():
                assert text.count(f"<!-- --8<-- [{mark}:{section}] -->") == 1


def test_every_equation_has_its_place_in_the_mathematics():
    headings = re.findall(r"^## Eq.*$", (DOCS / "mathematics.md").read_text(), re.MULTILINE)
    assert sorted(re.findall(r"\((\d)\)", " ".join(headings))) == list("123456789")


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_fetched_from_elsewhere(page):
    assert not re.search(r"<script|<img|!\[[^\]]*\]\(https?:", (DOCS / page).read_text())
