"""The command ``simat``: a group of whatever is registered under ``simat.commands``."""

from __future__ import annotations

import io
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from simat import __version__, plugins
from simat.cli.console import one_line_errors, show_log


class LazyGroup(TyperGroup):
    """Knows the names of all commands, imports one when it is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The registered names."""
        return list(plugins.registered(plugins.COMMANDS))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of one name, None when there is none."""
        if cmd_name not in plugins.registered(plugins.COMMANDS):
            return None
        loaded = plugins.load(plugins.COMMANDS, cmd_name)
        command = typer.main.get_command(loaded if isinstance(loaded, typer.Typer) else _wrapped(loaded))
        command.name = cmd_name
        return command


def _wrapped(function: Any) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(function)
    return app


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> bool:
    if wanted:
        print(f"simat {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def simat(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Search images by "this one, but with a cat instead of a dog"."""


def main() -> None:
    """Run the command line; see :func:`simat.cli.console.one_line_errors` for its exit codes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names of files may hold bytes that no terminal can show
    # Pillow warns of large pictures; simat.images has limits of its own.
    warnings.filterwarnings("ignore", message=r"Image size \(.* pixels\) exceeds limit")
    show_log()
    with one_line_errors():
        app(args=_arguments(sys.argv[1:]))


def _arguments(arguments: list[str]) -> list[str]:
    # `simat edit INDEX dog.jpg "- person"`: an edit that begins with a minus sign is no option.
    return [f" {a}" if a.startswith("- ") else a for a in arguments]


if __name__ == "__main__":
    main()
