"""What the README tells a person to type exists, and the check on a bare machine does the same."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


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
