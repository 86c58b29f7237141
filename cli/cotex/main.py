"""The command line: mounts the groups, and turns kinds of error into exit codes, in one table."""

import importlib
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from cotex import view
from cotexd import __version__
from cotexd.errors import CotexError, Kind

# Imported only when one of them is called: `cotex --help` loads none of what they need.
COMMANDS = {
    "init": "Set up the data folder, the keys and the first user.",
    "serve": "Run the server.",
    "status": "What runs, and on what.",
    "doctor": "Whether everything is as it must be.",
    "user": "Users: add, list, show, disable, remove, passwd, token.",
    "repo": "Tracked repositories: add, list, show, share, filter, remove.",
    "tier": "Tiers: list, show, add, edit, remove, set.",
    "billing": "Selling tiers with Stripe: status, sync, setup.",
    "webhook": "Webhooks at GitHub: setup, status, ping, deliveries, redeliver, repair, remove, url.",
    "event": "Events: list, show, trace, send.",
    "tail": "Follow events live.",
    "forward": "Pass deliveries on to an address of your own.",
    "config": "Settings: show, check, path.",
    "secret": "Secrets and keys: list, set, remove, rotate.",
    "audit": "Who changed what.",
    "log": "What running servers log: level, show, reset.",
    "db": "The database: status, check, backup, restore, copy, purge, migrate.",
}

EXIT = {
    Kind.FAILED: 1,
    Kind.UNAVAILABLE: 1,
    Kind.INVALID: 2,
    Kind.UNSUPPORTED: 2,
    Kind.NOT_FOUND: 3,
    Kind.CONFLICT: 4,
    Kind.FORBIDDEN: 5,
    Kind.UNAUTHORIZED: 5,
    Kind.TOO_LARGE: 5,
    Kind.LIMITED: 5,
    Kind.UNREACHABLE: 6,
}
INTERRUPTED = 130
NICE = 5
"""by how much a command yields to a server on the same machine, whose deliveries a backup is not to hold up"""
_alone = False
"""whether this process is only the command's"""


class Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # Typer's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """A stand-in with its line of help; `resolve_command` gives the real one."""
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        if _alone and name != "serve":
            os.nice(NICE)
            # As Ctrl-C: what was being written is taken back before the process ends.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        loaded = typer.main.get_command(importlib.import_module(f"cotex.{name}").app)
        loaded.name = name
        return name, loaded, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CotexError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            view.error(error)
            raise typer.Exit(EXIT[error.kind]) from None
        except (KeyboardInterrupt, typer.Abort):
            view.say("Interrupted.")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever read our output has had enough (`cotex event list | head`).
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit from None
        except Exception as error:
            # A border: no traceback reaches a person who did not ask for it. Typer's own ways out have an exit code.
            if hasattr(error, "exit_code") or ctx.params.get("debug"):
                raise
            view.say(f"cotex: Something went wrong that nobody foresaw: {type(error).__name__}: {error}")
            view.say("See where with: cotex --debug …")
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    no_args_is_help=True,
    epilog=view.examples("cotex init --user ada", "cotex status --json", "cotex --version"),
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cotex {__version__}")
        raise typer.Exit


@app.callback()
def cotex(
    context: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of keys and database. [COTEX_DATA_DIR]", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file. [COTEX_CONFIG]", show_default=False)
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Administer a CoTeX backend of your own.

    Works with the server running or not; what a command changes is in force within a second.
    """
    del debug, version
    context.obj = {
        "data_dir": None if data_dir is None else str(data_dir),
        "config": None if config is None else str(config),
    }


def main() -> None:
    global _alone  # noqa: PLW0603  # set once, by the process's own entry
    _alone = hasattr(os, "nice")
    app()


if __name__ == "__main__":
    main()
