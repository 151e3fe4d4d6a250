"""Runs the README's main job in a terminal, cold and then warm, and keeps what a person sees.

python experiments/first_search/run.py      # writes terminal.svg, pareto.png, result.json and seconds.json beside it
"""

import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMAND = "nas search --device cpu"
COLUMNS, LINES = 120, 60


def in_terminal(command: list[str], environment: dict[str, str]) -> tuple[str, float]:
    """Run a command in a pseudo-terminal; return what it printed there and the seconds it took."""
    ours, its = pty.openpty()
    start = time.monotonic()
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(its)
        printed = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return printed.decode().replace("\r\n", "\n"), time.monotonic() - start


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says so when the other end is closed
        return b""


def picture(printed: str, path: Path) -> None:
    """Draw what a terminal shows."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.assemble(("$ ", "bold"), COMMAND))
    console.print(Text.from_ansi(printed))
    console.save_svg(str(path), title="hwnas")


def main() -> None:
    """Search twice, the first time with nothing known of the device."""
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as work:
        environment = {
            **os.environ, "HWNAS_CACHE": f"{work}/cache", "COLUMNS": str(COLUMNS), "LINES": str(LINES),
            "TERM": "xterm-256color",
        }  # fmt: skip
        seconds = {}
        for state in ("cold", "warm"):
            out = Path(work, state)
            printed, seconds[state] = in_terminal([*COMMAND.split(), "--out", str(out)], environment)
            if state == "cold":
                picture(printed.replace(str(out), "nas-search/cpu"), here / "terminal.svg")
                for name in ("pareto.png", "result.json"):
                    shutil.copy(out / name, here / name)
    (here / "seconds.json").write_text(json.dumps({name: round(value) for name, value in seconds.items()}) + "\n")
    print(f"cold {seconds['cold']:.0f} s, warm {seconds['warm']:.0f} s")


if __name__ == "__main__":
    main()
