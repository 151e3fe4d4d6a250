"""The command line starts light: what takes seconds to import is imported by the commands that need it."""

import subprocess
import sys

HEAVY = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "sklearn", "scipy", "optuna", "matplotlib", "pandas")


def loaded_after(code: str) -> list[str]:
    script = f"import sys\n{code}\nprint('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout.splitlines()[-1].split()[1:]


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    assert loaded_after("import nas.cli.main") == []


def test_help_loads_nothing_heavy() -> None:
    code = "from nas.cli.main import main\nsys.argv = ['nas', '--help']\ntry: main()\nexcept SystemExit: pass"
    assert loaded_after(code) == []


def test_the_base_is_plain_python() -> None:
    assert loaded_after("import nas.errors, nas.registry, nas.files; assert 'numpy' not in sys.modules") == []
