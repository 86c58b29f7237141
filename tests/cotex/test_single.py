import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = f"#!{sys.executable}\nimport sys\nfrom cotex.single import main\nsys.exit(main())\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The one file, and what an administrator links to it."""
    path = tmp_path / "cotexd"
    path.write_text(PROGRAM)
    path.chmod(0o755)
    (tmp_path / "cotex").symlink_to(path)
    return path


def said(file: Path, *arguments: str) -> str:
    environment = {**os.environ, "COTEX_DATA_DIR": str(file.parent / "data")}
    done = subprocess.run([file, *arguments], capture_output=True, text=True, check=True, env=environment)
    return done.stdout


def test_it_is_the_server(file: Path):
    assert said(file, "--version").startswith("cotexd ")
    assert "Run the CoTeX backend" in said(file, "--help")


def test_by_the_name_of_the_commands_it_is_them(file: Path):
    assert "Administer a CoTeX backend" in said(file.with_name("cotex"), "--help")
    assert "ada" in said(file.with_name("cotex"), "user", "add", "ada")


def test_by_its_own_name_it_is_told_to_be_them(file: Path):
    assert '"engine": "sqlite"' in said(file, "cotex", "db", "status", "--json")
