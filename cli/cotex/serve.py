"""`cotex serve`: the same server as `cotexd`, for people: it says what to type next."""

from pathlib import Path
from typing import Annotated

import typer

from cotex import view
from cotexd import __version__, config, unneeded

app = view.single()


@app.command(
    epilog=view.examples(
        "cotex serve",
        "cotex serve --port 9000",
        "cotex serve --host 0.0.0.0 --database postgresql://cotex@db/cotex",
    )
)
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [8080]; 0 takes a free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of keys and database.")] = None,
    database: Annotated[str | None, typer.Option(help="postgresql://… instead of SQLite.")] = None,
    configuration: Annotated[Path | None, typer.Option("--config", help="Configuration file.")] = None,
) -> None:
    """Run the server, until Ctrl-C or SIGTERM. Makes what is missing; private to this machine unless told."""
    flags = {
        "host": host,
        "port": port,
        "data_dir": data_dir and str(data_dir),
        "database": database,
        "config": configuration and str(configuration),
    }
    given = {**(context.obj or {}), **{name: value for name, value in flags.items() if value is not None}}
    settings = config.load(given)
    unneeded.leave_out(settings)
    # Not before: Peewee looks for its drivers when it is imported.
    from cotexd import appliance, telemetry
    from cotexd.operations import accounts, repositories
    from cotexd.store import Store

    telemetry.set_up(settings.log_level, settings.log_format)
    store = Store(settings.database, settings.data_dir, settings.key)
    users = store.look(accounts.all_of_them)
    repos = store.look(repositories.everyone)
    kind = store.dialect.label
    store.close()

    def started(url: str) -> None:
        view.say(f"cotexd {__version__} is ready at {url} ({kind}, data in {settings.data_dir}).")
        if not config.is_loopback(settings.host) and not settings.public_url.startswith("https://"):
            view.say("It is open to the network: put a proxy with TLS before it (docs/operations.md).")
        view.say("Stop it with Ctrl-C.")
        if not (users and repos):
            view.say("\nNext, in another terminal:")
            if not users:
                view.say("  cotex user add ada")
            view.say(f"  cotex repo add octo/hello --user {users[0].name if users else 'ada'}")
            view.say("  cotex tail          and, in a third one,   cotex event send --repo octo/hello\n")

    appliance.run(lambda: config.load(given), started)
