"""What the one-file program runs: `cotexd`, or `cotex` where the file is called that, or is told to be it."""

import sys
from pathlib import Path


def main() -> int:
    """By the name that it was called with: `ln -s cotexd cotex`, or `cotexd cotex repo list`."""
    named = Path(sys.argv[0]).name == "cotex"
    if not named and sys.argv[1:2] == ["cotex"]:
        del sys.argv[1]
        named = True
    if named:
        from cotex.main import main as cotex

        cotex()
        return 0
    from cotexd.__main__ import main as cotexd

    return cotexd()
