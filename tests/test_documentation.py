"""What the pages tell people to type is there to be typed, and what they tell them to write is taken."""

import ast
import importlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from cotex import main
from cotexd import config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for language, text in BLOCK.findall(page.read_text()):
            if language in languages:
                yield page.name, text


def typed() -> Iterator[str]:
    """Each line of `cotex` in a block, without what a person only reads."""
    for _, text in blocks("sh", "console"):
        for line in text.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] == ["cotex"]:
                yield shlex.join(words[1:])


def spoken() -> Iterator[str]:
    """Each `cotex …` in a sentence, as far as its words are those of a command."""
    for page in PAGES:
        text = BLOCK.sub("", page.read_text())
        yield from re.findall(r"`cotex ([a-z][a-z-]*(?: [a-z][a-z-]*)?)[^`]*`", text)


def command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these begin with, and what is left of them."""
    name, *rest = words
    assert name in main.COMMANDS, f"There is no cotex {name}."
    found: Any = typer.main.get_command(importlib.import_module(f"cotex.{name}").app)
    if hasattr(found, "commands"):
        word, *rest = rest
        assert word in found.commands, f"There is no cotex {name} {word}."
        found = found.commands[word]
    return found, rest


@pytest.mark.parametrize("line", sorted({line for line in typed() if line}))
def test_a_command_in_a_block_is_one_with_all_that_it_is_given(line: str):
    found, rest = command(shlex.split(line))
    assert found.make_context("cotex", rest).command is found


@pytest.mark.parametrize("words", sorted(set(spoken())))
def test_a_command_in_a_sentence_is_one(words: str):
    name, *rest = words.split()
    assert name in main.COMMANDS
    loaded: Any = typer.main.get_command(importlib.import_module(f"cotex.{name}").app)
    if rest and hasattr(loaded, "commands"):
        assert rest[0] in loaded.commands


def test_every_variable_that_is_named_is_an_options():
    known = {config.variable_of(option) for option in config.declared()}
    known |= {f"{name}_FILE" for name in known} | {
        "COTEX_CONFIG",
        "COTEX_COPY_TO",
        "COTEX_URL",
        "COTEX_TOKEN",
    }
    known |= {"COTEX_DOMAIN", "COTEX_UPSTREAM", "COTEX_PAYLOADS", "COTEX_SERVER"}
    named = {name for page in PAGES for name in re.findall(r"\bCOTEX_[A-Z0-9_]+[A-Z0-9]", page.read_text())}
    assert named <= known


@pytest.mark.parametrize(("page", "text"), list(blocks("python")))
def test_what_is_python_is_python(page: str, text: str):
    try:
        ast.parse(text)
    except SyntaxError:
        # What is awaited at the top stands in a function of the reader's.
        ast.parse("async def of_the_readers():\n" + "".join(f"    {line}\n" for line in text.splitlines()))


@pytest.mark.skipif(shutil.which("nginx") is None, reason="NO NGINX: what is written for it is not tried.")
@pytest.mark.parametrize(("page", "text"), list(blocks("nginx")))
def test_what_is_for_nginx_is_taken_by_it(tmp_path: Path, page: str, text: str):
    mapped = "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }"
    folders = "".join(
        f"{name}_temp_path {tmp_path}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders} {mapped} server {{ listen 127.0.0.1:8081;\n{text}\n}} }}\n"
    )
    done = subprocess.run(
        ["nginx", "-t", "-c", tmp_path / "nginx.conf"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
