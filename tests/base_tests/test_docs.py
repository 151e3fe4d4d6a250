"""The documentation: its site builds without a warning, and what it tells a person to type or import is there."""

import ast
import importlib
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from nas.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
COMMANDS = typer.main.get_group(app).commands
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Return the words of every command of ours on a page."""
    lines = "\n".join(blocks(page, "bash")).replace("$(which nas)", "nas").splitlines()
    words = [shlex.split(part) for line in lines for part in line.split("&&")]
    return [some[some.index("nas") + 1 :] for some in words if "nas" in some]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_and_option_on_a_page_is_there(page: Path) -> None:
    for name, *arguments in commands(page):
        command = COMMANDS[name]
        parser = command.make_parser(command.context_class(command, info_name=name))
        parser.parse_args(list(arguments))  # fails on an option that there is not


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_what_a_page_imports_is_there(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_there_are_commands_to_look_at() -> None:
    used = {words[0] for page in PAGES for words in commands(page)}
    assert set(COMMANDS) - used == set(), "a command that no page shows"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    text = (ROOT / "mkdocs.yml").read_text().replace("paths: [.]", f"paths: ['{ROOT}']")
    (tmp_path / "mkdocs.yml").write_text(text)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    run = subprocess.run(["zensical", "build", "--strict"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "griffe" not in run.stdout + run.stderr, run.stdout + run.stderr
    assert (tmp_path / "site/reference/search/index.html").exists()
