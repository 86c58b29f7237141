"""Whether the time of a refusal tells what was wrong: it must not.

An unknown repository against a wrong signature, and an unknown user against a wrong password, in turns, so that the
machine's moods are in both. Told is how far the two medians are apart, in units of what chance alone makes of them
(the standard error of a median, 1.25 s/√n, with s from the middle half of the values): up to BOUND is chance. With so
many values an answer that takes a twentieth longer would stand out.
"""

import http.client
import json
import random
import statistics
import time
import uuid
from collections.abc import Callable

from bench import payloads, server
from bench.figure import Result, Row, Run
from bench.process import Broken
from cotexd.domain import passwords
from cotexd.domain.github import sign
from cotexd.operations import accounts, sessions
from cotexd.store import Store

BOUND = 4.0
HOOKS = 250
"""deliveries of each kind: together fewer than the bad signatures that one address may send in a minute"""
USERS = 6
GUESSES = 4
"""of each user, and as many of nobody: fewer than one address may make in a minute"""
Send = Callable[[bool], int]
"""send one, known or unknown; returns the status"""


def measure(run: Run) -> Result:
    prepared = server.prepare(run.folder("timing"))
    _with_passwords(Store("", prepared.folder, ""))
    with server.cotexd(run.root, prepared) as ours:
        connection = http.client.HTTPConnection(ours.host, ours.port, timeout=20)
        body = payloads.push(1)
        # One address as well: a router remembers the last ones that it was asked for, whether they exist or not.
        unknown = f"/api/webhooks/github/{uuid.uuid4()}"

        def hook(known: bool) -> int:  # two kinds, no more
            path = prepared.path if known else unknown
            headers = {
                "content-type": "application/json",
                "x-github-event": "push",
                "x-github-delivery": str(uuid.uuid4()),
                "x-hub-signature-256": sign(body, "wrong").decode(),
            }
            return _post(connection, path, body, headers)

        guesses = iter(range(USERS * GUESSES))

        def guess(known: bool) -> int:  # as above
            who = f"user{next(guesses) % USERS}" if known else f"nobody{uuid.uuid4().hex[:8]}"
            grant = json.dumps({"email": who, "password": "not the password"}).encode()
            return _post(
                connection, "/auth/v1/token?grant_type=password", grant, {"content-type": "application/json"}
            )

        apart = {
            "repository": _apart(hook, HOOKS, 401),
            "user": _apart(guess, USERS * GUESSES, 400),
        }
        connection.close()
    rows = [
        Row(
            f"unknown {what} against a wrong {wrong}, medians", f"{one:.3f} ms", f"{other:.3f} ms", _told(far)
        )
        for (what, (one, other, far)), wrong in zip(apart.items(), ("signature", "password"), strict=True)
    ]
    facts: dict[str, object] = {what: round(far, 2) for what, (_, _, far) in apart.items()}
    return Result(rows, {**facts, "bound": BOUND})


def _apart(send: Send, count: int, status: int) -> tuple[float, float, float]:
    """The medians of unknown and known in milliseconds, and how far they are apart."""
    for known in (True, False) if status == 401 else ():
        send(known)
    took: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(count):
        for known in random.sample((True, False), 2):
            began = time.perf_counter()
            found = send(known)
            took[known].append((time.perf_counter() - began) * 1000)
            if found != status:
                raise Broken(f"A refusal was answered {found}, not {status}.")
    medians = [statistics.median(took[known]) for known in (False, True)]
    error = sum((1.25 * _spread(each)) ** 2 / len(each) for each in took.values()) ** 0.5
    return medians[0], medians[1], abs(medians[0] - medians[1]) / error


def _spread(values: list[float]) -> float:
    """A standard deviation that a few slow answers do not move."""
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 1.349


def _told(far: float) -> str:
    return f"{far:.1f} apart, {'chance' if far <= BOUND else 'NOT CHANCE'} up to {BOUND:.0f}"


def _post(connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str]) -> int:
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def _with_passwords(store: Store) -> None:
    hashed = passwords.hash_of("the right password")
    for number in range(USERS):
        name = f"user{number}"
        store.run(accounts.create, name)
        store.run(sessions.set_password, name, hashed, f"{name}@example.com")
    store.close()
