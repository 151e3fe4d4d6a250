"""The command line starts light: what takes seconds to import is imported by the commands that need it."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "sklearn", "scipy", "optuna", "matplotlib", "pandas")
COMMANDS = (
    "search",
    "train",
    "collect",
    "calibrate",
    "evaluate",
    "prune",
    "quantize",
    "devices",
    "spaces",
    "strategies",
)


def run(code: str) -> tuple[str, list[str]]:
    """Return what some code printed, and which heavy modules it loaded; it must end well."""
    script = f"import sys\n{code}\nprint('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    printed, _, loaded = done.stdout.rpartition("LOADED")
    return printed, loaded.split()


def help_of(*arguments: str) -> tuple[str, list[str]]:
    """Return the same of ``nas ARGUMENTS --help``, which must exit with 0."""
    return run(
        f"from nas.cli.main import main\nsys.argv = {['nas', *arguments, '--help']!r}\n"
        "try: code = main()\nexcept SystemExit as end: code = end.code\nassert not code, code"
    )


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    assert run("import nas.cli.main") == ("", [])


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    printed, loaded = help_of()
    assert set(COMMANDS) <= set(printed.split())
    assert loaded == []


@pytest.mark.parametrize("command", ["search", "train", "prune"])
def test_help_of_a_command_loads_nothing_heavy_either(command: str) -> None:
    printed, loaded = help_of(command)
    assert f"nas {command}" in printed and "--out" in printed
    assert loaded == []


def test_the_base_is_plain_python() -> None:
    code = "import nas.errors, nas.registry, nas.files, nas.lock, nas.writing; assert 'numpy' not in sys.modules"
    assert run(code) == ("", [])
