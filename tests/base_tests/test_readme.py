"""What the README tells a person to type exists, and the check on a bare machine does the same."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from nas.cli.main import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
CODE = re.compile(r"```\w*\n(.*?)```|`([^`]+)`", re.DOTALL)


@pytest.fixture(scope="module")
def commands(repository: Path) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    return [part.strip() for line in "\n".join(blocks).splitlines() for part in line.split("&&")]


def test_one_line_installs_and_searches_and_one_installs_and_tests(commands: list[str]) -> None:
    assert "pip install -e ." in commands and "nas search --device cpu" in commands
    assert "pip install -e '.[dev]'" in commands and "pytest" in commands


def test_the_check_on_a_bare_machine_runs_both(repository: Path) -> None:
    run = (repository / ".ci/run").read_text()
    assert "nas search --device cpu" in run and "scripts/check" in run
    assert re.search(r"^pytest", (repository / "scripts/check").read_text(), re.MULTILINE)


def test_every_command_of_ours_has_its_help(commands: list[str]) -> None:
    ours = {command.split()[1] for command in commands if command.startswith("nas ")}
    for name in sorted(ours):
        code = f"import sys; sys.argv = ['nas', {name!r}, '--help']; from nas.cli.main import main; sys.exit(main())"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert run.returncode == 0, f"nas {name} --help: {run.stderr[-500:]}"


def typed(text: str) -> Iterator[list[str]]:
    """Yield the words after every ``nas`` that stands in code of a Markdown text, "…" left out."""
    for block, span in CODE.findall(text):
        for line in re.split("&&|\n", block) if block else [" ".join(span.split())]:
            _, ours, rest = f" {line.strip().replace('$(which nas)', 'nas')}".partition(" nas ")
            if ours:
                yield [word for word in shlex.split(rest, comments=True) if word != "…"]


def parse(words: list[str]) -> None:
    """Parse a command as it is written, without what it asks for; the last option may lack its value."""
    command = COMMANDS[words[0]]
    valued = {name for option in command.params if not getattr(option, "is_flag", False) for name in option.opts}
    completed = [*words[1:], "value"] if words[-1] in valued else words[1:]
    _, left, _ = command.make_parser(command.context_class(command)).parse_args(completed)
    assert left == [], f"{words}: {left} is too much"


def test_every_command_in_a_readme_exists_with_its_options(repository: Path) -> None:
    texts = [
        path.read_text()
        for place in ("", "experiments/**/", "supernets/**/")
        for path in repository.glob(f"{place}*.md")
    ]
    commands = [words for text in texts for words in typed(text) if words != ["--help"]]
    assert len(commands) > 40 and {words[0] for words in commands} == set(COMMANDS)
    for words in commands:
        parse(words)


def test_every_option_in_the_readme_is_of_some_command(repository: Path) -> None:
    spans = [" ".join(span.split()) for _, span in CODE.findall((repository / "README.md").read_text())]
    named = {span.split()[0] for span in spans if span.startswith("--")}
    known = {name for command in COMMANDS.values() for option in command.params for name in option.opts}
    assert len(named) > 5 and named <= known


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("`nas serch --device cpu`", "serch"),
        ("| `nas search --device cpu --latncy 2` |", "--latncy"),
        ("```bash\npip install x && nas evaluate a b\n```", "is too much"),
        ("`torchrun --nproc-per-node 2 $(which nas) train … --eposch 3`", "--eposch"),
    ],
)
def test_a_command_that_does_not_exist_is_found(text: str, message: str) -> None:
    [words] = typed(text)
    with pytest.raises(Exception, match=message):
        parse(words)


def test_every_folder_and_file_in_the_tree_is_there(repository: Path) -> None:
    text = (repository / "README.md").read_text().partition("## The files")[2]
    tops = re.findall(r"^    ([\w/]+)  ", text, re.MULTILINE)
    nested = [f"nas/{name}" for name in re.findall(r"^      ([\w/.]+)  ", text, re.MULTILINE)]
    assert len(tops) >= 8 and len(nested) >= 5
    assert [name for name in tops + nested if not (repository / name).exists()] == []


def test_no_readme_waits_for_its_figures(repository: Path) -> None:
    figures = (repository / "README.md").read_text().partition("figures: begin")[2].partition("figures: end")[0]
    pictures = re.findall(r"experiments/first_search/\w+\.\w+", figures)
    assert len(pictures) >= 2 and all((repository / name).exists() for name in pictures)
    assert [path for path in repository.glob("experiments/**/README.md") if "FIGURES" in path.read_text()] == []
