"""The log: accept deliveries into it, and read it for those who may see them.

Three readers ask the same membership rows: the accepting transaction (who gets this event now), the backlog (what a
client missed) and the history over REST. `visibility` is the one place that says who may see what.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import msgspec

from cotexd.domain import filter as filters
from cotexd.domain import packing
from cotexd.domain.cursor import Ancestor, Log
from cotexd.domain.event import Frame, Touched, frame, new_ids, summarise
from cotexd.domain.filter import Filter
from cotexd.domain.github import Delivery
from cotexd.errors import BadSignature, CotexError, RepoPaused
from cotexd.operations.visibility import Range, audiences, ranges_of, seek, wants
from cotexd.store import Published, Tx
from cotexd.store.models import Event, LogState, Membership, Repository

RETENTION = timedelta(days=14)
MAX_BACKLOG = 100
"""events in one read of the backlog"""
MAX_BACKLOG_BYTES = 64 * 1024
"""of summaries in one read; at least one event is read"""
MAX_PAGE = 100
_INSERT = """
INSERT INTO event
  (seq, id, repo_id, delivery_id, event_type, branch, verified, filtered, created_at, sent_at, summary, payload)
"""
_FIELDS = [
    Event.seq,
    Event.id,
    Event.repo_id,
    Event.event_type,
    Event.branch,
    Event.created_at,
    Event.sent_at,
    Event.summary,
]


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """A checked delivery, made ready for the log: `summary` is JSON, `payload` is GitHub's as received.

    `paths` are the files that a push touched, None where not all are known. A big payload comes `packed`. `sent_at` is
    set where the event is repaired: when GitHub first tried to deliver it.
    """

    repo_id: str
    delivery_id: str
    event_type: str
    branch: str
    verified: str
    summary: bytes
    payload: bytes
    paths: tuple[str, ...] | None = ()
    packed: bool = False
    sent_at: datetime | None = None


class Accepted(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    event_id: str
    seq: int
    duplicate: bool
    filtered: bool = False
    """the repository's filter keeps it out: it has its place in the log, and nobody gets it"""


class _Repository(msgspec.Struct, frozen=True):
    name: str
    wants: Filter
    paused: bool


class Backlog(msgspec.Struct, frozen=True):
    """A part of what a user has not got yet: everything of theirs in (after, upto], `head` being the log's then.

    But for what lies up to `floor`: that was purged.
    """

    frames: tuple[Frame, ...]
    upto: int
    head: int
    floor: int = 0


def prepare(
    delivery: Delivery, repo_name: str, now: datetime, *, sent_at: datetime | None = None, pack: bool = False
) -> Incoming:
    """A delivery, ready for `accept_many`; no transaction is needed, and a thread may do it.

    :param pack: compress the payload here, as the writer would
    """
    summary = summarise(delivery, repo_name, sent_at or now)
    return Incoming(
        repo_id=delivery.repo_id,
        delivery_id=delivery.delivery_id,
        event_type=delivery.event_type,
        branch=summary.branch,
        verified=delivery.verified,
        summary=msgspec.json.encode(summary),
        payload=packing.pack(delivery.payload) if pack else delivery.payload,
        paths=Touched(summary.files, summary.metadata).paths if summary.files else (),
        packed=pack,
        sent_at=sent_at,
    )


def accept_many(tx: Tx, incoming: list[Incoming]) -> list[Accepted | CotexError]:
    """Put deliveries into the log, each (repository, GUID) once; one result for each, in order.

    A BadSignature among the results is a repository that was removed since its signature was checked, a RepoPaused
    one that is paused. The events' audiences are decided here, in the transaction that gives them their place.
    """
    repos, known = _repositories(tx, {each.repo_id for each in incoming}), _known(tx, incoming)
    ids = iter(new_ids(tx.now, len(incoming)))
    results: list[Accepted | CotexError] = []
    new: list[tuple[Incoming, Accepted]] = []
    ((seq,),) = tx.rows("SELECT head FROM log_state WHERE id = 1")
    for each in incoming:
        key, repo = (each.delivery_id, each.repo_id), repos.get(each.repo_id)
        if repo is None:
            results.append(BadSignature())
        elif key in known:
            results.append(known[key])
        elif repo.paused:
            results.append(_paused(repo.name))
        else:
            seq += 1
            out = not repo.wants.passes(each.event_type, each.branch, each.paths)
            accepted = Accepted(next(ids), seq, duplicate=False, filtered=out)
            known[key] = Accepted(accepted.event_id, seq, duplicate=True, filtered=out)
            new.append((each, accepted))
            results.append(accepted)
    if new:
        _append(tx, _repaired(tx, new), repos)
    return results


def _repositories(tx: Tx, repo_ids: set[str]) -> dict[str, _Repository]:
    rows = tx.rows(
        "SELECT id, name, wants, paused_at IS NOT NULL OR limited_at IS NOT NULL"
        " FROM repository WHERE removed_at IS NULL AND id IN ?",
        repo_ids,
    )
    return {
        repo_id: _Repository(name, filters.decode(wants), bool(paused))
        for repo_id, name, wants, paused in rows
    }


def _known(tx: Tx, incoming: list[Incoming]) -> dict[tuple[str, str], Accepted]:
    """Those of these deliveries that the log has already, by GUID and repository."""
    rows = tx.rows(
        "SELECT delivery_id, repo_id, id, seq, filtered FROM event WHERE delivery_id IN ?",
        {each.delivery_id for each in incoming},
    )
    return {
        (guid, repo_id): Accepted(event_id, seq, duplicate=True, filtered=bool(filtered))
        for guid, repo_id, event_id, seq, filtered in rows
    }


def _repaired(tx: Tx, new: list[tuple[Incoming, Accepted]]) -> list[tuple[Incoming, Accepted]]:
    """The same, those that GitHub was asked to send again marked with when it first did."""
    sent = {
        (guid, repo_id): Event.sent_at.python_value(at)
        for guid, repo_id, at in tx.rows(
            "SELECT delivery_id, repo_id, sent_at FROM missing_delivery WHERE delivery_id IN ?",
            {each.delivery_id for each, _ in new},
        )
    }
    if not sent:
        return new
    return [
        (
            msgspec.structs.replace(each, sent_at=each.sent_at or sent.get((each.delivery_id, each.repo_id))),
            accepted,
        )
        for each, accepted in new
    ]


def _append(tx: Tx, new: list[tuple[Incoming, Accepted]], repos: dict[str, _Repository]) -> None:
    moment = Event.created_at.db_value(tx.now)
    payloads = _packed([each for each, accepted in new if not accepted.filtered])
    kept = [None if accepted.filtered else next(payloads) for _, accepted in new]
    tx.insert(
        _INSERT,
        [
            (
                accepted.seq,
                accepted.event_id,
                each.repo_id,
                each.delivery_id,
                each.event_type,
                each.branch,
                each.verified,
                accepted.filtered,
                moment,
                Event.sent_at.db_value(each.sent_at),
                None if accepted.filtered else each.summary,
                payload,
            )
            for (each, accepted), payload in zip(new, kept, strict=True)
        ],
    )
    touched = {each.repo_id for each, _ in new}
    tx.change("UPDATE repository SET last_event_at = ? WHERE id IN ?", moment, touched)
    tx.head, tx.head_id = new[-1][1].seq, new[-1][1].event_id
    # Nobody else can have moved it: a write transaction is alone from its begin.
    tx.change("UPDATE log_state SET head = ?", tx.head)
    members = audiences(tx, touched)
    for (each, accepted), payload in zip(new, kept, strict=True):
        travelling = frame(
            seq=accepted.seq,
            event_id=accepted.event_id,
            repo_id=each.repo_id,
            repo_name=repos[each.repo_id].name,
            event_type=each.event_type,
            summary=each.summary,
            created_at=each.sent_at or tx.now,
            repaired=each.sent_at is not None,
        )
        audience = tuple(
            user_id
            for user_id, wanted in members.get(each.repo_id, ())
            if not accepted.filtered and wanted.passes(each.event_type, each.branch, each.paths)
        )
        tx.published.append(Published(travelling, audience, len(payload or b"")))


def _packed(incoming: list[Incoming]) -> Iterator[bytes]:
    """Their payloads as the log has them, in order."""
    small = iter(packing.pack_many([each.payload for each in incoming if not each.packed]))
    return (each.payload if each.packed else next(small) for each in incoming)


def _paused(name: str) -> RepoPaused:
    return RepoPaused(
        f"{name} is paused: GitHub keeps its deliveries for 3 days, and they are fetched when it is resumed.",
        hint="Resume it before they are gone.",
    )


def log(tx: Tx) -> Log:
    ((epoch, head, floor),) = tx.rows("SELECT epoch, head, floor FROM log_state WHERE id = 1")
    lineage = tuple(Ancestor(*each) for each in tx.rows("SELECT epoch, head FROM lineage ORDER BY id"))
    return Log(epoch, head, floor, lineage)


def backlogs(tx: Tx, asked: Sequence[tuple[str, int]]) -> list[Backlog]:
    """For each (user, after): the next part of what the user has not got, a bounded number of frames, in order.

    Many at a time: thousands of clients may come back at once, often of one user and from one place.
    """
    state = LogState.get_by_id(1)
    ranges: dict[str, list[Range]] = {}
    found: dict[tuple[str, int], Backlog] = {}
    for user_id, after in asked:
        if (user_id, after) not in found:
            if user_id not in ranges:
                ranges[user_id] = ranges_of(user_id)
            found[user_id, after] = _backlog(tx, ranges[user_id], after, state)
    return [found[each] for each in asked]


def backlog(tx: Tx, user_id: str, after: int) -> Backlog:
    """The same for one."""
    return backlogs(tx, [(user_id, after)])[0]


def _backlog(tx: Tx, ranges: list[Range], after: int, state: LogState) -> Backlog:
    head, floor = int(state.head), int(state.floor)
    if after >= head:
        return Backlog((), head, head, floor)
    seqs = seek(tx, ranges, after=after, upto=head, limit=MAX_BACKLOG)
    by_repo = _by_repo(ranges)
    frames: list[Frame] = []
    size = 0
    rows = Event.select(*_FIELDS).where(Event.seq.in_(seqs), Event.summary.is_null(False)).order_by(Event.seq)
    for row in rows:
        mine = next(each for each in by_repo[row.repo_id] if each.holds(row.repo_id, row.seq))
        if not mine.wants(row):
            continue
        length = len(row.summary or b"")
        if frames and size + length > MAX_BACKLOG_BYTES:
            return Backlog(tuple(frames), frames[-1].seq, head, floor)
        size += length
        frames.append(_frame(row, mine.repo_name))
    whole = len(seqs) < MAX_BACKLOG
    return Backlog(tuple(frames), head if whole else seqs[-1], head, floor)


def published_after(_: Tx, after: int) -> tuple[list[Published], int]:
    """Events of the log after `after` with those who see them, and up to where this read reached.

    For a hub that was not told of them: another process wrote them, or the answer to a commit was lost.
    """
    head = int(LogState.get_by_id(1).head)
    rows = list(
        Event.select(*_FIELDS, Repository.name)
        .join(Repository, on=(Repository.id == Event.repo_id), attr="repo")
        .where(Event.seq > after, Event.seq <= head)
        .order_by(Event.seq)
        .limit(MAX_BACKLOG)
    )
    members = list(Membership.select().where(Membership.repo_id.in_({row.repo_id for row in rows})))
    found = [
        Published(
            _frame(row, row.repo.name),
            tuple(
                member.user_id
                for member in members
                if member.repo_id == row.repo_id
                and member.since_seq < row.seq
                and (member.until_seq is None or row.seq <= member.until_seq)
                and wants(filters.decode(member.wants), row)
            ),
        )
        for row in rows
        if row.summary is not None
    ]
    return found, rows[-1].seq if len(rows) == MAX_BACKLOG else head


def _by_repo(ranges: list[Range]) -> dict[str, list[Range]]:
    found: dict[str, list[Range]] = {}
    for each in ranges:
        found.setdefault(each.repo_id, []).append(each)
    return found


def _frame(row: Event, repo_name: str) -> Frame:
    return frame(
        seq=row.seq,
        event_id=row.id,
        repo_id=row.repo_id,
        repo_name=repo_name,
        event_type=row.event_type,
        summary=bytes(row.summary or b""),
        created_at=row.sent_at or row.created_at,
        repaired=row.sent_at is not None,
    )
