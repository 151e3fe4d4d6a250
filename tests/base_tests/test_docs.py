"""The documentation: its site builds without a warning, and what it tells a person to type or import is there."""

import ast
import importlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from nas.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page for place in ("", "docs/**/", "experiments/**/", "supernets/**/") for page in ROOT.glob(f"{place}*.md")
)
CODE = re.compile(r"```\w*\n(.*?)```|`([^`]+)`", re.DOTALL)  # blocks, and what stands within lines
COMMANDS = typer.main.get_group(app).commands
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words after every ``nas`` in code of a text, but a "…" that is no option's value."""
    for block, span in CODE.findall(text):
        for line in re.split("&&|\n", block) if block else [" ".join(span.split())]:
            _, ours, rest = f" {line.strip().replace('$(which nas)', 'nas')}".partition(" nas ")
            words = shlex.split(rest, comments=True) if ours else []
            if words and words != ["--help"]:
                yield [word for last, word in pairwise(["", *words]) if word != "…" or last.startswith("--")]


def parse(name: str, *arguments: str) -> None:
    """Parse a command as it is written, without what it asks for; its last option may lack the value."""
    command = COMMANDS[name]
    valued = {name for option in command.params if not getattr(option, "is_flag", False) for name in option.opts}
    completed = [*arguments, "value"] if arguments and arguments[-1] in valued else list(arguments)
    _, left, _ = command.make_parser(command.context_class(command, info_name=name)).parse_args(completed)
    assert left == [], f"{name} {arguments}: {left} is too much"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_and_option_on_a_page_is_there(page: Path) -> None:
    for words in commands(page.read_text()):
        parse(*words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("`nas serch --device cpu`", "serch"),
        ("| `nas search --device cpu --latncy 2` |", "--latncy"),
        ("```bash\npip install x && nas evaluate a b\n```", "is too much"),
        ("`torchrun --nproc-per-node 2 $(which nas) train … --eposch 3`", "--eposch"),
    ],
)
def test_a_command_that_is_not_there_is_found(text: str, message: str) -> None:
    [words] = commands(text)
    with pytest.raises(Exception, match=message):
        parse(*words)


def test_every_option_that_the_readme_names_alone_is_of_some_command() -> None:
    spans = [" ".join(span.split()) for _, span in CODE.findall((ROOT / "README.md").read_text())]
    named = {span.split()[0] for span in spans if span.startswith("--")}
    known = {name for command in COMMANDS.values() for option in command.params for name in option.opts}
    assert len(named) > 5 and named <= known


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_what_a_page_imports_is_there(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_there_are_commands_to_look_at() -> None:
    used = {words[0] for page in PAGES if page.name != "CHANGELOG.md" for words in commands(page.read_text())}
    assert set(COMMANDS) - used == set(), "a command that no page shows"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    text = (ROOT / "mkdocs.yml").read_text().replace("paths: [.]", f"paths: ['{ROOT}']")
    (tmp_path / "mkdocs.yml").write_text(text)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    run = subprocess.run(["zensical", "build", "--strict"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "griffe" not in run.stdout + run.stderr, run.stdout + run.stderr
    assert (tmp_path / "site/reference/search/index.html").exists()
