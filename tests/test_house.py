"""The house is as docs/architecture.md draws it: every room has its test, and nothing lies in the wrong one."""

import ast
import configparser
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from cotexd import __version__

ROOT = Path(__file__).parents[1]
SOURCES = {"cotexd": ROOT / "cotexd", "cotex": ROOT / "cli" / "cotex"}
TESTED_ELSEWHERE = {
    "cotexd/store/transaction.py": "values without behaviour, in the hands of every test of the store",
}
MOST_LINES = 400
LONGER = {
    "cotexd/gateways/stripe.py": "one service, one file; a third of it is the forms of its answers",
    "cotexd/gateways/github.py": "one service, one file; half of it is its values, and what it refuses in words",
    "cotexd/config.py": "one declaration for every option",
    "cotexd/store/models.py": "one schema, whole: a class for every table",
    "cotexd/store/dialect.py": "the only file where either database is named",
    "cotexd/web/routes.py": "one table, whole: a row for every route",
    "cotexd/live/session.py": "one state machine, whole; a third of it says which effects and limits there are",
}
"""a file that is longer than MOST_LINES, and why"""
MACHINE = re.compile(r"(?<![\w.~}-])/(?:work|root|home)(?:/|\b(?!\w))")
"""the beginning of a path on the machine of whoever wrote it"""
SLASH = "/"
"""so that this file itself names no such path"""


def modules() -> dict[str, Path]:
    """Every module by its name below the root."""
    return {
        file.relative_to(ROOT).as_posix(): file
        for source in SOURCES.values()
        for file in sorted(source.rglob("*.py"))
    }


def says_nothing(file: Path) -> bool:
    """Whether it holds no more than a docstring and a version."""
    return all(
        (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        or (isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "__version__")
        for part in ast.parse(file.read_text()).body
    )


def mirror(name: str) -> Path:
    """Where a module is tested; what a package itself holds is tested in a file of the package's name."""
    parts = Path(name.removeprefix("cli/").removeprefix("cotexd/")).with_suffix("").parts
    *folders, last = parts
    last = folders[-1] if last == "__init__" else last.strip("_")
    return ROOT / "tests" / Path(*folders) / f"test_{last}.py"


def test_every_module_has_its_test_file():
    speaking = {name for name, file in modules().items() if not says_nothing(file)}
    assert {name for name in speaking if not mirror(name).exists()} == TESTED_ELSEWHERE.keys()
    assert all(TESTED_ELSEWHERE.values())


@pytest.mark.parametrize(
    ("name", "test"),
    [
        ("cotexd/web/github.py", "tests/web/test_github.py"),
        ("cotexd/store/__init__.py", "tests/store/test_store.py"),
        ("cotexd/__main__.py", "tests/test_main.py"),
        ("cli/cotex/user.py", "tests/cotex/test_user.py"),
    ],
)
def test_a_test_lies_where_its_module_does(name: str, test: str):
    assert mirror(name) == ROOT / test


def test_no_file_is_longer_than_one_can_oversee_without_a_reason():
    lines = {name: len(file.read_text().splitlines()) for name, file in modules().items()}
    assert {name for name, count in lines.items() if count > MOST_LINES} == LONGER.keys()
    assert all(LONGER.values())


def tracked() -> dict[str, str]:
    """Every text file that is under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    texts = {}
    for name in filter(None, listed):
        try:
            texts[name] = (ROOT / name).read_text()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # a picture, or removed just now
    return texts


def test_no_file_names_a_path_of_the_machine_that_it_was_written_on():
    found = {name: MACHINE.search(text) for name, text in tracked().items()}
    assert "cotexd/__init__.py" in found
    assert {name: match[0] for name, match in found.items() if match} == {}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (f"see {SLASH}work/main/x", True),
        (f'"{SLASH}root"', True),
        (f"{SLASH}home/ada", True),
        (".github/workflows/ci.yml", False),
        ("https://x.example/work/1", False),
        ("~/home/x", False),
        ("/workflows", False),
    ],
)
def test_a_path_of_a_machine_is_known_when_it_is_seen(text: str, meant: bool):
    assert bool(MACHINE.search(text)) is meant


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "cotexd.__version__"}
    written = [name for name, file in modules().items() if f'"{__version__}"' in file.read_text()]
    assert written == ["cotexd/__init__.py"]


@pytest.mark.timeout(300)
def test_the_wheel_holds_the_two_packages_and_nothing_else(tmp_path: Path):
    tree = tmp_path / "tree"
    left = shutil.ignore_patterns(
        ".*", "*.egg-info", "__pycache__", "build", "dist", "data", "tests", "bench"
    )
    shutil.copytree(ROOT, tree, ignore=left)
    # Without setuptools here, pip fetches what pyproject.toml asks for.
    isolated = [] if importlib.util.find_spec("setuptools") is None else ["--no-build-isolation"]
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", *isolated, "-w", tmp_path / "wheel", tree],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "wheel").iterdir()
    assert wheel.name == f"cotexd-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = archive.read(f"cotexd-{__version__}.dist-info/entry_points.txt").decode()
    assert {name.split("/")[0] for name in held} == {"cotex", "cotexd"}
    wanted = {name.removeprefix("cli/") for name in modules()}
    assert held - wanted == {"cotex/py.typed", "cotex/sample_push.json", "cotexd/py.typed"}
    assert wanted <= held
    assert set(re.findall(r"^(\w+) =", entry_points, re.MULTILINE)) == {"cotex", "cotexd"}


def contracts() -> dict[str, configparser.SectionProxy]:
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    return {name: parsed[name] for name in parsed.sections() if name.startswith("importlinter:contract:")}


PACKAGES = [
    "cotex",
    *(f"cotexd.{each.parent.name}" for each in sorted((ROOT / "cotexd").glob("*/__init__.py"))),
]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_its_floor_in_the_import_contract(package: str):
    layers = contracts()["importlinter:contract:directions"]["layers"]
    floors = {name.strip("() ") for line in layers.splitlines() for name in line.split("|")}
    assert package in floors


@pytest.mark.parametrize("package", [package for package in PACKAGES if package != "cotex"])
def test_a_package_is_kept_from_every_library_that_the_contract_does_not_let_it_know(package: str):
    """A contract's name says who may: "sanic is known to web and appliance"."""
    for contract in contracts().values():
        if contract["type"] == "forbidden" and package.removeprefix("cotexd.") not in contract["name"]:
            sources = contract["source_modules"].split()
            assert package in sources or "cotexd" in sources, contract["name"]


def test_imports_flow_one_way():
    lint = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(
        lint, cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}"}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout.decode()


def test_every_runtime_dependency_says_in_the_architecture_what_it_saves_us():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[<>=~! ;]", each, maxsplit=1)[0].lower() for each in project["dependencies"]}
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = [line for line in text.splitlines() if re.match(r"\s*[|*-] ", line)]
    said = {
        word for row in rows for word in re.findall(r"[a-z0-9-]+", row.strip("|*- ").split("|")[0].lower())
    }
    assert names - said == set()
