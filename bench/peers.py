"""`make bench-peers`: fan-out and ingest beside what else there is, in one run.

nginx with nchan, mosquitto, NATS, Redis and adnanh's webhook, as Debian has them; what is missing is installed. Each
runs as one process with its own defaults, on loopback, with nothing written to the disk: they promise nothing that a
restart must keep, except ours. A publisher hands each one event at a time, of as many bytes as ours has.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import burst, fanout, payloads, server
from bench.client import Listeners, Marks, message, upgrade
from bench.crowd import OfPeer, crowds, warm
from bench.figure import Ratio, Result, Row, Run
from bench.ingest import CONNECTIONS, Poster
from bench.process import Broken, Child, environment
from bench.server import Server

PACKAGES = {
    "nginx": "nginx",
    "/usr/lib/nginx/modules/ngx_nchan_module.so": "libnginx-mod-nchan",
    "mosquitto": "mosquitto",
    "nats-server": "nats-server",
    "redis-server": "redis-server",
    "webhook": "webhook",
}
"""what has to be there, and the package of Debian that has it"""
BURSTS = 16
"""events in flight, where ours is set against nchan"""
_END = 4
"""the last byte of an event of those that are no WebSockets: in none of their protocols does it come elsewhere"""
_HOST = "127.0.0.1"
_NGINX = """
user root; daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 65536; pid {folder}/nginx.pid;
error_log {folder}/error.log; load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
events {{ worker_connections 30000; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder}; keepalive_requests 10000000; nchan_shared_memory_size 256M;
  server {{
    listen {host}:{port} backlog=4096; tcp_nodelay on;
    location = /pub {{ nchan_publisher http; nchan_channel_id c; }}
    location = /ws {{ nchan_subscriber websocket; nchan_channel_id c; nchan_subscriber_first_message newest; }}
  }}
}}
"""
_MOSQUITTO = (
    "user root\nlistener {port} {host}\nallow_anonymous true\nmax_connections -1\nset_tcp_nodelay true\n"
)
_NATS = "host: {host}\nport: {port}\nmax_connections: 65536\n"
_REDIS = "bind {host}\nport {port}\nsave ''\nmaxclients 30000\ndir {folder}\n"


@dataclass(frozen=True)
class Peer:
    name: str
    command: Sequence[str]
    """{file} is its configuration"""
    configuration: str
    listens: bytes
    """what a listener says to be sent everything"""
    hello: bytes
    """what a publisher says first"""
    publish: Callable[[bytes], bytes]
    """what it says for an event"""
    marks: Marks | None = None


def peers() -> list[Peer]:
    connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a"
    # An empty name of a client, so that each has one of its own.
    nameless = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"
    nats = b'CONNECT {"verbose":false,"pedantic":false}\r\n'
    return [
        Peer(
            "nchan",
            ("nginx", "-c", "{file}"),
            _NGINX,
            upgrade(_HOST, "/ws", ""),
            b"",
            lambda text: _post("/pub", text),
        ),
        Peer(
            "mosquitto",
            ("mosquitto", "-c", "{file}"),
            _MOSQUITTO,
            nameless + b"\x82\x06\x02\x02\x00\x01t\x00",
            connect,
            lambda text: b"\x30" + _varint(len(text) + 3) + b"\x00\x01t" + text,
            Marks("\x03\x02\x02", _END),
        ),
        Peer(
            "NATS",
            ("nats-server", "-c", "{file}"),
            _NATS,
            nats + b"SUB t 1\r\nPING\r\n",
            nats,
            lambda text: b"PUB t %d\r\n%b\r\n" % (len(text), text),
            Marks("PONG\r\n", _END),
        ),
        Peer(
            "Redis",
            ("redis-server", "{file}"),
            _REDIS,
            b"SUBSCRIBE t\r\n",
            b"",
            lambda text: b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nt\r\n$%d\r\n%b\r\n" % (len(text), text),
            Marks(":1\r\n", _END),
        ),
    ]


def install() -> None:
    """What is missing, from the distribution.

    :raises Broken: this is no Debian, or this user may not
    """
    missing = [
        package for what, package in PACKAGES.items() if not (shutil.which(what) or Path(what).exists())
    ]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if shutil.which("apt-get") is None or os.geteuid():
        raise Broken(f"Install these first: {' '.join(missing)}.")
    subprocess.run(command, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def measure(run: Run) -> Result:
    install()
    parts = [_fanout(run, count) for count in fanout.LISTENERS] + [_bursts(run), _ingest(run)]
    return Result(
        [row for part in parts for row in part.rows],
        {key: value for part in parts for key, value in part.facts.items()},
    )


def _fanout(run: Run, count: int) -> Result:
    """One event after the other to so many connections: ours, the C loop, the peers."""
    rounds, events = (2, 20_000 // count) if run.quick else (5, 100_000 // count)
    names = ["ours", "send loop", "await ws.send()", *(peer.name for peer in peers())]
    with crowds(run, f"peers-{count}", count) as three, ExitStack() as stack:
        size = three[0].listeners.message
        four = [stack.enter_context(_crowd(run, peer, count, size)) for peer in peers()]
        found = [[fanout.round_of(each, events, count) for each in (*three, *four)] for _ in range(rounds)]
    rows, facts = [], {}
    for what, key, speeds in (
        (
            "a second by the clock",
            "",
            [[each[which].a_second for each in found] for which in range(len(names))],
        ),
        (
            "a second of CPU",
            "_cpu",
            [[each[which].a_cpu_second for each in found] for which in range(len(names))],
        ),
    ):
        for name, theirs in zip(names[1:], speeds[1:], strict=True):
            ratio = Ratio.of(speeds[0], theirs)
            rows.append(
                Row(
                    f"1 event of {size:,} bytes to {count:,}: deliveries {what}",
                    f"{statistics.median(speeds[0]):,.0f}",
                    f"{statistics.median(theirs):,.0f} ({name})",
                    str(ratio),
                )
            )
            facts[f"{name}{key}"] = {"theirs": round(statistics.median(theirs)), **ratio.facts}
        facts[f"ours{key}"] = round(statistics.median(speeds[0]))
    return Result(rows, {str(count): facts})


def _bursts(run: Run) -> Result:
    """Events in flight to 1,000 WebSockets, against nchan."""
    rounds, seconds = (2, 1.0) if run.quick else (5, 3.0)
    nchan = peers()[0]
    with (
        server.cotexd(run.root, server.prepare(run.folder("peers-burst"))) as ours,
        burst.crowd(run, ours, ours.requests, BURSTS) as first,
        _running(run, nchan) as (process, port),
    ):
        first.round(burst.WARM)
        text = message(first.message)
        to = Server(process, _HOST, port, nchan.listens, [burst.numbered(_post("/pub", text))])
        with burst.crowd(run, to, to.requests, BURSTS) as second:
            second.round(burst.WARM)
            found = [[each.round(seconds) for each in (first, second)] for _ in range(rounds)]
    speeds = [[each[which] for each in found] for which in (0, 1)]
    ratio = Ratio.of(*speeds)
    mine, theirs = map(statistics.median, speeds)
    title = f"{BURSTS} events in flight, each to {burst.LISTENERS:,} WebSockets: events a second"
    return Result(
        [Row(title, f"{mine:,.0f}", f"{theirs:,.0f} (nchan)", str(ratio))],
        {"bursts": {"ours": round(mine), "nchan": round(theirs), **ratio.facts}},
    )


def _ingest(run: Run) -> Result:
    """Signed deliveries: ours, which stores them, against webhook, which checks the signature and does nothing."""
    rounds, seconds = (2, 1.5) if run.quick else (5, 4.0)
    prepared = server.prepare(run.folder("peers-ingest"))
    port = _free_port()
    rule = {"match": {"type": "payload-hmac-sha256", "secret": prepared.secret}}
    rule["match"]["parameter"] = {"source": "header", "name": "X-Hub-Signature-256"}  # type: ignore[assignment]
    hooks = run.folder("webhook") / "hooks.json"
    hooks.write_text(json.dumps([{"id": "h", "execute-command": "/bin/true", "trigger-rule": {"not": rule}}]))
    command = ["webhook", "-ip", _HOST, "-port", str(port), "-hooks", str(hooks)]
    with (
        server.cotexd(run.root, prepared) as ours,
        Child(command, environment(run.root)) as process,
    ):
        _wait_for(port)
        requests = payloads.requests(_HOST, "/hooks/h", prepared.secret)
        to = Server(process, _HOST, port, b"", requests)
        posters = Poster(run, ours), Poster(run, to)
        found = [[each.round(CONNECTIONS, seconds) for each in posters] for _ in range(rounds)]
    speeds = [[each[which].a_second for each in found] for which in (0, 1)]
    ratio = Ratio.of(*speeds)
    mine, theirs = map(statistics.median, speeds)
    title = f"signed deliveries of 10 KB a second, {CONNECTIONS} connections"
    return Result(
        [Row(title, f"{mine:,.0f}, stored", f"{theirs:,.0f} (webhook, none)", str(ratio))],
        {"ingest": {"ours": round(mine), "webhook": round(theirs), **ratio.facts}},
    )


@contextmanager
def _running(run: Run, peer: Peer) -> Iterator[tuple[Child, int]]:
    folder, port = Path(run.folder(f"{peer.name}-{time.monotonic_ns()}")), _free_port()
    file = folder / "configuration"
    file.write_text(peer.configuration.format(folder=folder, host=_HOST, port=port))
    with Child([part.format(file=file) for part in peer.command], environment(run.root)) as process:
        _wait_for(port)
        yield process, port


@contextmanager
def _crowd(run: Run, peer: Peer, count: int, size: int) -> Iterator[OfPeer]:
    text = message(size)
    if peer.marks is not None:
        text = text[:-1] + bytes([_END])
    with (
        _running(run, peer) as (process, port),
        Listeners(run.load, (_HOST, port), count, peer.listens, peer.marks) as listeners,
    ):
        crowd = OfPeer(process, listeners, (_HOST, port), peer.hello, peer.publish(text))
        warm(crowd)
        yield crowd


def _post(path: str, text: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(text), text)


def _varint(number: int) -> bytes:
    """MQTT 3.1.1, 2.2.3, of 128 to 16,383."""
    return bytes([number % 128 | 128, number // 128])


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((_HOST, 0))
        return int(found.getsockname()[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + server.START_WITHIN
    while True:
        try:
            socket.create_connection((_HOST, port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise Broken(f"Nothing listens on port {port}.") from None
            time.sleep(0.05)
        else:
            return
