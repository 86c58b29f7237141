"""The command line as people have it: in this process where that is enough, else in a process of its own."""

import asyncio
import json
import os
import pty
import queue
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
from actors import WAIT, logged
from typer.testing import CliRunner

from cotex.main import app
from cotexd.operations import accounts, repositories
from cotexd.operations.repositories import Tracked
from cotexd.store import Store

COMMAND = Path(sys.executable).with_name("cotex")
AGAIN = 2.0
"""seconds until a person who sees nothing happen presses Ctrl-C again"""


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code, its results and its messages."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Lines:
    """What a stream of a running command says, line by line."""

    beside: "Lines | None" = None
    """the command's other stream, to be shown with this one"""

    def __init__(self, stream: IO[str]) -> None:
        self.said: list[str] = []
        self._new: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.said.append(line)
                self._new.put(line)
        self._new.put(None)

    def until(self, part: str) -> str:
        """Wait for a line that holds `part`."""
        while (line := self._new.get(timeout=WAIT)) is not None:
            if part in line:
                return line
        return pytest.fail(
            f"It ended without a word of {part!r}: {self.all()}{self.beside and self.beside.all()}"
        )

    def all(self) -> str:
        """All that was said, once the command has ended."""
        self._reader.join(WAIT)
        return "".join(self.said)


class Running:
    """A command that runs on."""

    url = ""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.out, self.err = Lines(process.stdout), Lines(process.stderr)
        self.out.beside, self.err.beside = self.err, self.out

    def end(self, number: int = signal.SIGTERM) -> Done:
        self.process.send_signal(number)
        return self.done()

    def done(self) -> Done:
        return Done(self.process.wait(WAIT), self.out.all(), self.err.all())


class Cotex:
    """`cotex …` on a data folder of its own."""

    def __init__(self, data: Path, database: str) -> None:
        self.data = data
        self.database = database
        self._environment = {"COTEX_DATA_DIR": str(data)} | ({"COTEX_DATABASE": database} if database else {})
        self._started: list[Running] = []

    def __call__(self, *arguments: str, stdin: str = "", **environment: str) -> Done:
        """In this process, without a terminal. What is no refusal in words is raised: it would be a traceback."""
        runner = CliRunner(env={**self._environment, **environment})
        result = runner.invoke(app, arguments, input=stdin, prog_name="cotex")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    async def beside(self, *arguments: str, **more: str) -> Done:
        """In a process of its own, beside a server that runs on this loop."""
        return await asyncio.to_thread(self.process, *arguments, **more)

    def process(self, *arguments: str | bytes, stdin: str = "", **environment: str) -> Done:
        done = subprocess.run(
            [COMMAND, *arguments],
            input=stdin,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, **environment: str) -> Running:
        process = subprocess.Popen(
            [COMMAND, *arguments],
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(Running(process))
        return self._started[-1]

    def serve(self, *arguments: str, **environment: str) -> Running:
        """A server that is ready, on a free port unless told; it does not wait for clients when it is stopped."""
        defaults = {"COTEX_PORT": "0", "COTEX_DRAIN_SECONDS": "0"}
        server = self.start("serve", *arguments, **{**defaults, **environment})
        found = re.search(r"http://\S+", server.err.until("is ready at"))
        assert found is not None
        server.url = found[0]
        return server

    def on_a_terminal(
        self,
        *arguments: str,
        answers: Mapping[str, str | signal.Signals] | None = None,
        piped: bool = False,
        **environment: str,
    ) -> Done:
        """On a terminal: `err` is what it shows. Standard output is the terminal too, unless it is piped.

        :param answers: by question, in their order, what the person types, or the signal that they send
        """
        ours, its = pty.openpty()
        process = subprocess.Popen(
            [COMMAND, *arguments],
            env=self.environment(**{"TERM": "xterm-256color", "COLUMNS": "200", **environment}),
            stdin=its,
            stdout=subprocess.PIPE if piped else its,
            stderr=its,
            # No password is asked for on the terminal of whoever runs the tests.
            start_new_session=True,
        )
        os.close(its)
        waiting = list((answers or {}).items())
        screen, seen, answer, waited = "", 0, "", 0.0
        try:
            while waited < WAIT:
                if not select.select([ours], [], [], AGAIN)[0]:
                    waited += AGAIN
                    if isinstance(answer, signal.Signals):
                        # A signal that comes just before a read begins is seen when the next one ends it.
                        process.send_signal(answer)
                    continue
                try:
                    screen += os.read(ours, 65536).decode(errors="replace")
                except OSError:  # nobody has the terminal open any more
                    break
                if waiting and waiting[0][0] in screen[seen:]:
                    seen = len(screen)
                    answer = waiting.pop(0)[1]
                    if isinstance(answer, signal.Signals):
                        process.send_signal(answer)
                    else:
                        os.write(ours, answer.encode())
            result = process.communicate(timeout=WAIT)[0]
        finally:
            os.close(ours)
            process.kill()
            process.wait()
        return Done(process.returncode, result.decode() if piped else screen, screen)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
        return {**kept, **self._environment, **more}

    def stop(self) -> None:
        for each in self._started:
            each.process.kill()
            each.process.wait()


@pytest.fixture
def cotex(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cotex]:
    """The command line on this test's data folder, and on its database where it has one."""
    wants_one = "database" in request.fixturenames
    made = Cotex(tmp_path / "data", request.getfixturevalue("database") if wants_one else "")
    yield made
    made.stop()


@pytest.fixture
def octo(cotex: Cotex) -> Tracked:
    """What most commands need: ada, octo/hello of hers with its secret, and one event of it."""
    store = Store(cotex.database, cotex.data)
    tracked = store.run(repositories.add, store.run(accounts.create, "ada").id, "octo/hello")
    logged(store, tracked)
    store.close()
    return tracked
