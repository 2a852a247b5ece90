"""The documentation tells the truth: its code runs, its commands parse, its files exist."""

import importlib
import pathlib
import re
import shlex

import pytest
import yaml
from code_blocks import blocks, run_python
from hub import Hub

from keras_patchpu import (
    card_command,
    cli,
    demo_command,
    export_command,
    inspect_images,
    predict_command,
    shards,
    table1_command,
    thresholds,
)

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
WITH_CODE = [page for page in PAGES if blocks((DOCS / page).read_text(), "python")]
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
GUIDES += [DOCS / page for page in PAGES if page != "reliability.md"]  # has a test of its own
API = ["layers", "losses", "models", "optimizers", "metrics", "datasets"]
PARSERS = {
    "train": cli._train_parser,
    "inspect": inspect_images._parser,
    "thresholds": thresholds._parser,
    "predict": predict_command._parser,
    "merge": shards._parser,
    "demo": demo_command._parser,
    "export": export_command._parser,
    "card": card_command._parser,
    "table1": table1_command._parser,
}


@pytest.mark.parametrize("page", WITH_CODE)
def test_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if page == "howto/sharing.md":
        Hub(tmp_path / "hub", monkeypatch)
    run_python((DOCS / page).read_text(), page)


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


@pytest.mark.parametrize(
    "page, command, arguments", [pytest.param(*c, id=" ".join((*c[:2], *c[2]))) for c in commands()]
)
def test_commands_have_these_options(page, command, arguments):
    parser = PARSERS[command]()
    if "--config" in arguments and command == "train":  # would be read
        at = arguments.index("--config")
        arguments = arguments[:at] + arguments[at + 2 :]
    if arguments != ["--help"]:
        parser.parse_args(arguments)


def test_an_option_that_does_not_exist_is_seen():
    with pytest.raises(SystemExit):
        PARSERS["predict"]().parse_args(["model", "photos", "--frames"])


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


@pytest.mark.parametrize("name", API)
def test_api_has_functions_named_as_their_files(name):
    module = importlib.import_module(f"keras_patchpu.{name}")
    files = {path.stem for path in pathlib.Path(module.__file__).parent.glob("*.py")}
    listed = re.findall(r"^::: (.*)$", (DOCS / "api" / f"{name}.md").read_text(), re.MULTILINE)
    both = sorted(files & set(module.__all__))
    assert listed == [
        module.__name__,
        *(f"{module.__name__}.{function}.{function}" for function in both),
    ]


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
