"""`cotexd`: the server and nothing else, for systemd and containers. People type `cotex serve`, which is the same."""

import argparse
import sys

from cotexd import __version__, config, unneeded
from cotexd.errors import CotexError

USAGE = 2


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code (docs/operations.md)."""
    given = vars(_parser().parse_args(arguments))
    try:
        settings = config.load(given)
        unneeded.leave_out(settings, "rich")  # structlog would draw tracebacks with it
        from cotexd import appliance, telemetry

        telemetry.set_up(settings.log_level, settings.log_format)
        appliance.run(lambda: config.load(given))
    except CotexError as error:
        sys.stderr.write("\n".join(filter(None, (error.message, error.hint))) + "\n")
        return USAGE if error.code == "invalid" else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cotexd",
        description="Run the CoTeX backend. Every option is also in the configuration file and in the environment.",
        epilog="examples:\n  cotexd\n  COTEX_DATA_DIR=/var/lib/cotex cotexd --host 0.0.0.0 --port 8080",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cotexd {__version__}")
    parser.add_argument("--config", metavar="FILE", help="TOML file; otherwise cotex.toml in the data folder")
    for option in config.declared():
        if not option.metadata["secret"] or option.name == "database":
            parser.add_argument(
                "--" + option.name.replace("_", "-"),
                metavar=option.name.upper(),
                help=f"{option.metadata['about']} [{config.variable_of(option)}]",
            )
    return parser


if __name__ == "__main__":
    sys.exit(main())
