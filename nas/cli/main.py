"""``nas``: the commands, and how errors become one line and an exit code.

0: done. 1: the work failed. 2: wrong use or wrong input. 130: interrupted. Nothing heavy is imported before a command
runs.
"""

import sys
from collections.abc import Sequence

import typer

from nas import __version__
from nas.cli import (
    calibrate,
    collect,
    devices,
    evaluate,
    import_ofa,
    prune,
    quantize,
    search,
    spaces,
    strategies,
    train,
)
from nas.cli.interrupt import INTERRUPTED, interrupted_by_sigterm
from nas.cli.output import close_output, mend_streams
from nas.errors import NasError

app = typer.Typer(
    name="nas",
    help="Finds the best network for the device in front of you: searched, quantized, measured there and exported.",
    epilog="Start with: nas search --device cpu",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for command in (
    search.search, evaluate.evaluate, calibrate.calibrate, train.train, collect.collect, prune.prune,
    quantize.quantize, import_ofa.import_ofa, devices.devices, spaces.spaces, strategies.strategies,
):  # fmt: skip
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hwnas {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Show the help where no command is given."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``nas`` with ``arguments`` (the process's own by default) and return the exit code."""
    words = None if arguments is None else list(arguments)
    mend_streams()
    try:
        with interrupted_by_sigterm():
            code = app(args=words, prog_name="nas", standalone_mode=False)
        sys.stdout.flush()
    except NasError as error:
        return _fail(f"error: {error}", error.exit_code)
    except (KeyboardInterrupt, typer.Abort) as error:
        return _fail(f"interrupted; {error}" if str(error) else "interrupted", INTERRUPTED)
    except OSError as error:
        close_output()
        return 1 if isinstance(error, BrokenPipeError) else _fail(f"error: {error}", 1)
    except Exception as error:  # typer's own errors moved between its versions; all of them can say what is wrong
        if not hasattr(error, "format_message"):
            raise
        return _fail(f"error: {_usage_message(error)}", 2)
    if code == INTERRUPTED:  # typer made it of an interrupt that nothing in the command had a word for
        return _fail("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _usage_message(error: Exception) -> str:
    message = " ".join(str(error.format_message()).split())  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    return f"{message.rstrip('.')}; see {context.command_path if context else 'nas'} --help"


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
