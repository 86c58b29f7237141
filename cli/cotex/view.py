"""What people see: tables, lines, JSON and errors. The only file that draws.

Results go to standard output, messages to standard error. On a terminal a list is a table; piped it is lines with
tabs; with --json it is one document.
"""

import contextlib
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Protocol

import msgspec
import typer

from cotexd.errors import CotexError

Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
IfNotExists = Annotated[bool, typer.Option("--if-not-exists", help="Succeed if it is there already.")]


WATCHED_EVERY = 1.0
"""seconds"""
_BARS = "▁▂▃▄▅▆▇█"
_TURNS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "L", "R", "AL"})


def group(about: str) -> typer.Typer:
    """A group of commands, in the form in which all of ours are."""
    return typer.Typer(help=about, rich_markup_mode=None, no_args_is_help=True, add_completion=False)


def single() -> typer.Typer:
    """A command that is no group."""
    return typer.Typer(rich_markup_mode=None, add_completion=False)


def examples(*lines: str) -> str:
    """The end of a command's help; a test runs each of these."""
    return "\b\nExamples:\n" + "\n".join(f"  $ {line}" for line in lines)


def document(value: object) -> None:
    """One JSON document on standard output."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def line(value: object) -> None:
    """One JSON document on one line, at once: for streams."""
    sys.stdout.write((value if isinstance(value, str) else msgspec.json.encode(value).decode()) + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows for people: drawn on a terminal, tabs when piped."""
    texts = [[_cell(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for row in texts:
            typer.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in texts:
        drawn.add_row(*(Text(text) for text in row))
    Console().print(drawn)


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """One thing: a name and a value a line."""
    width = max(len(name) for name, _ in pairs) if sys.stdout.isatty() else 0
    for name, value in pairs:
        typer.echo(f"{name.ljust(width)}  {_cell(value)}" if width else f"{name}\t{_cell(value)}")


def watch(look: Callable[[], Sequence[tuple[str, object]]]) -> None:
    """The same, drawn anew each second, until Ctrl-C.

    :raises Invalid: there is no terminal to draw on
    """
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from cotexd.errors import Invalid

    if not sys.stdout.isatty():
        raise Invalid("There is no terminal to draw on.", hint="Without --watch it is printed once.")
    with Live(console=Console(), auto_refresh=False) as shown, contextlib.suppress(KeyboardInterrupt):
        while True:
            grid = Table.grid(padding=(0, 2))
            for name, value in look():
                grid.add_row(name, _cell(value))
            shown.update(grid, refresh=True)
            time.sleep(WATCHED_EVERY)


def sparkline(values: Sequence[int]) -> str:
    """Bars of eight heights, the highest for the highest value; none is a dot."""
    most = max(values, default=0)
    return "".join("·" if not each else _BARS[(each * len(_BARS) - 1) // most] for each in values)


def result(text: str) -> None:
    """A bare result, to be captured by a script."""
    typer.echo(text)


def say(text: str) -> None:
    """A message, beside the results."""
    typer.echo(text, err=True)


def error(failure: CotexError) -> None:
    """What happened and why, and what to do next."""
    say("cotex: " + printable(failure.message, keep="\n"))
    if failure.hint:
        say(printable(failure.hint))


def confirm(question: str, *, yes: bool) -> None:
    """Ask before data is destroyed.

    :raises Invalid: there is nobody to ask, and no --yes
    """
    from cotexd.errors import Invalid

    if yes:
        return
    if not sys.stdin.isatty():
        raise Invalid(
            "This destroys data, and there is no terminal to ask.", hint="Add --yes if you mean it."
        )
    typer.confirm(question, abort=True, err=True)


def draws() -> bool:
    """Whether results are looked at by a person."""
    return sys.stdout.isatty()


def is_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


class Shown(Protocol):
    def __call__(self, done: int, total: int = 0, /) -> None: ...


@contextmanager
def progress(what: str) -> Iterator[Shown]:
    """Long work, as a bar on a terminal, for which `total` may be unknown; piped, it says nothing until it is done."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TextColumn(what), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        task = drawn.add_task(what, total=None)
        yield lambda done, total=0, /: drawn.update(task, completed=done, total=total or None)


def secret(what: str, *, stdin: bool, again: bool = True) -> str:
    """A secret from standard input or a prompt; never from the command line, where everybody on the machine reads it.

    :param again: ask twice, where nobody could tell a slip
    :raises Invalid: there is neither
    """
    from cotexd.errors import Invalid

    if stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise Invalid(f"There is no terminal to ask for the {what.lower()}.", hint="Give it with --stdin.")
    return str(typer.prompt(what, hide_input=True, confirmation_prompt=again, err=True))


def printable(text: str, keep: str = "") -> str:
    """Text from outside, without what could command a terminal, or turn the order in which it is read."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if _harms(each) and each not in keep else each for each in text
    )


def _harms(character: str) -> bool:
    if character.isprintable():
        return False
    kind = unicodedata.category(character)
    # Spaces of other widths and the joiners of emoji do no harm; marks that turn the direction do.
    return kind != "Zs" and (kind != "Cf" or unicodedata.bidirectional(character) in _TURNS)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return printable(str(value))
