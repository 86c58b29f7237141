"""What the README tells a newcomer is true: its first five minutes are run as they are written."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from actors import WAIT

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The lines that a person types in the first five minutes, in their order."""
    text = (ROOT / "README.md").read_text()
    section = re.search(r"^## The first five minutes$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    blocks = re.findall(r"^```console$(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    return [
        line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")
    ]


class Terminal:
    """One terminal of the newcomer's, in a folder of their own; each command in the background has another."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "COTEX_DATA_DIR": str(folder / "data"),
            "COTEX_PORT": str(port),
        }
        self.background: dict[str, subprocess.Popen[str]] = {}

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def start(self, command: str) -> Path:
        """Start what does not end by itself; returns the file of all that it says."""
        said = self._folder / f"{len(self.background)}.txt"
        with said.open("w") as file:
            self.background[command] = subprocess.Popen(
                ["sh", "-c", f"exec {command}"],
                cwd=self._folder,
                env={**self._environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                text=True,
            )
        return said

    def until(self, command: str, condition) -> None:
        """Wait for what a command in the background brings about."""
        deadline = time.monotonic() + WAIT
        while not condition():
            assert self.background[command].poll() is None, f"{command} has ended"
            assert time.monotonic() < deadline, f"{command} does not do what the README says"
            time.sleep(0.02)

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    opened = Terminal(tmp_path, port)
    yield opened
    for process in opened.background.values():
        process.kill()
        process.wait()


def test_the_first_five_minutes_go_as_they_are_written(terminal: Terminal):
    followed: dict[str, Path] = {}
    for command in commands():
        words = shlex.split(command, comments=True)
        if words[:2] == ["cotex", "serve"]:
            terminal.start(command)
            terminal.until(command, terminal.ready)
        elif words[:2] == ["cotex", "tail"]:
            followed[command] = said = terminal.start(command)
            terminal.until(command, lambda said=said: "Following" in said.read_text())
        else:
            terminal.run(command)
    (event,) = json.loads(terminal.run("cotex event list --json"))
    assert event["repo_name"] == "octo/hello"
    assert followed
    for command, said in followed.items():
        terminal.until(command, lambda said=said: event["headline"] in said.read_text())
        assert said.read_text().count(event["headline"]) == 1
    for process in terminal.background.values():
        process.send_signal(signal.SIGINT)
    codes = {command.split()[1]: process.wait(WAIT) for command, process in terminal.background.items()}
    assert codes == {"serve": 0, "tail": 130}


def test_the_first_five_minutes_hold_the_whole_way():
    typed = [" ".join(shlex.split(command, comments=True)[:3]) for command in commands()]
    assert [command for command in typed if command.startswith("cotex ")] == typed
    for step in ("cotex serve", "cotex user add", "cotex repo add", "cotex tail", "cotex event send"):
        assert any(command.startswith(step) for command in typed), step


def anchors(document: Path) -> set[str]:
    """The names under which a document's headings can be linked to, as GitHub makes them."""
    headings = re.findall(r"^#{1,6} +(.+?) *#*$", FENCED.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(document: Path):
    text = re.sub(r"`[^`\n]*`", "", FENCED.sub("", document.read_text()))
    links = re.findall(r"\]\(<?([^)\s>]+)>?[^)]*\)", text) + re.findall(
        r"^\[[^\]]+\]: +(\S+)", text, re.MULTILINE
    )
    for link in links:
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.resolve().is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link
