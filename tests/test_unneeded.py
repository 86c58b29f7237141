import subprocess
import sys

import pytest

PROGRAM = """
import sys
from cotexd import config, unneeded
unneeded.leave_out(config.load({"database": sys.argv[1], "data_dir": sys.argv[2]}), "rich")
from cotexd import appliance, telemetry
telemetry.set_up("info", "text")
from cotexd.store import dialect
dialect.of(sys.argv[1], lambda _: None)
print(*(name for name in ("rich", "psycopg") if sys.modules.get(name)))
"""


@pytest.mark.parametrize(
    ("url", "loaded"),
    [("sqlite:///cotex.db", ""), ("postgresql://cotex@db/cotex", "psycopg"), ("postgres://db", "psycopg")],
)
def test_a_server_loads_the_drivers_of_its_own_database_only(tmp_path, url: str, loaded: str):
    command = [sys.executable, "-c", PROGRAM, url, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.strip() == loaded, found.stderr
