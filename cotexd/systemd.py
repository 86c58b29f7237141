"""What systemd is told of us (sd_notify(3)): that we are ready, that we stop, that we turn. Elsewhere it is nothing."""

import os
import socket


def tell(*states: str) -> None:
    """Send assignments such as `READY=1`, if somebody listens; whoever started us is not worth an error."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # One in the abstract namespace is written with an @ (sd_notify(3)).
    where = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto("\n".join(states).encode(), where)
    except OSError:
        pass


def watchdog() -> float | None:
    """Seconds within which it wants a sign of life; None if it wants none of this process (sd_watchdog_enabled(3))."""
    wanted, whose = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not wanted.isdigit() or int(wanted) == 0 or whose not in {"", str(os.getpid())}:
        return None
    return int(wanted) / 1e6
