from datetime import timedelta

import msgspec
import pytest
from actors import join, logged
from conftest import Clock

from cotexd.domain.cursor import Cursor
from cotexd.domain.filter import Filter
from cotexd.errors import NotFound
from cotexd.operations import accounts, cursors, events, members, nodes, presence, repositories
from cotexd.operations.accounts import Account
from cotexd.operations.cursors import Ack, Keeper
from cotexd.operations.nodes import ALIVE, Server
from cotexd.operations.presence import MAX_AT_ONCE, Device, Present
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, Tx
from cotexd.store.models import Present as Row

SECOND = timedelta(seconds=1)


@pytest.fixture
def eve(store: Store) -> Account:
    return store.run(accounts.create, "eve")


@pytest.fixture(autouse=True)
def _running(store: Store, clock: Clock) -> None:
    beat(store, clock)


def beat(store: Store, clock: Clock, name: str = "one") -> None:
    store.run(nodes.beat, Server(name, "http://127.0.0.1:8080", "1.0", 4711, 0, clock()))


def present(clock: Clock, user_id: str, device: str = "", **more) -> Present:
    given = {"protocol": "v2", "address": "127.0.0.1", "sent": 0, "live": True, "buffer": 0, "id": device}
    return Present(**{**given, "user_id": user_id, "device": device, "connected_at": clock(), **more})


def connect(store: Store, *those: Present, node: str = "one") -> None:
    store.run(presence.note, node, those, ())


def attach(store: Store, user_id: str, device: str) -> None:
    store.run(cursors.attach, user_id, device=device, cursor=None)


def ack(store: Store, user_id: str, kind, name: str, seq: int) -> None:
    store.run(cursors.acknowledge_many, [Ack(Keeper(user_id, kind, name), seq)])


def devices(store: Store, user_id: str) -> list[Device]:
    return store.look(presence.devices, user_id)


def at(store: Store, seq: int) -> str:
    return str(Cursor(store.look(events.log).epoch, seq))


def rows(_: Tx) -> set[str]:
    return {row.id for row in Row.select()}


# What a server says.


def test_what_changes_is_taken_over_and_who_goes_is_gone(store: Store, ada: Account, clock: Clock):
    one, two, three = (present(clock, ada.id, name) for name in ("one", "two", "three"))
    store.run(presence.note, "one", [one, two], [])
    store.run(presence.note, "one", [msgspec.structs.replace(one, sent=7, live=False), three], ["two"])
    assert store.look(rows) == {"one", "three"}
    assert store.look(lambda _: Row.get_by_id("one").sent) == 7
    store.run(presence.note, "one", [], ["one", "three", "never there"])
    assert store.look(rows) == set()


def test_what_was_said_before_may_be_said_again(store: Store, ada: Account, clock: Clock):
    for _ in range(2):
        store.run(presence.note, "one", [present(clock, ada.id, "laptop")], ["gone"])
    assert store.look(rows) == {"laptop"}


@pytest.mark.parametrize(
    ("changed", "gone"), [(0, 0), (1, 0), (0, 1), (MAX_AT_ONCE, 3), (3, MAX_AT_ONCE + 1), (250, 420)]
)
def test_much_is_said_in_portions_and_whole(clock: Clock, changed: int, gone: int):
    here = [present(clock, "u", str(number)) for number in range(changed)]
    away = [str(number) for number in range(gone)]
    found = list(presence.portions(here, away))
    assert all(0 < len(some) + len(others) <= 2 * MAX_AT_ONCE for some, others in found)
    assert [each for some, _ in found for each in some] == here
    assert [each for _, others in found for each in others] == away


def test_a_portion_of_the_most_rows_is_taken(store: Store, ada: Account, clock: Clock):
    here = [present(clock, ada.id, str(number)) for number in range(MAX_AT_ONCE)]
    store.run(presence.note, "one", here, [f"gone {number}" for number in range(MAX_AT_ONCE)])
    assert len(store.look(rows)) == MAX_AT_ONCE


# A device that has a name.


def test_a_device_that_is_not_connected_is_known_by_what_it_acknowledged(
    store: Store, hello: Tracked, clock: Clock
):
    attach(store, hello.user_id, "laptop")
    logged(store, hello, 5)
    ack(store, hello.user_id, "device", "laptop", 2)
    seen = clock()
    clock.forward(timedelta(days=1))
    assert devices(store, hello.user_id) == [
        Device(
            device="laptop",
            protocol="v2",
            cursor=at(store, 2),
            lag=3,
            connected_since=None,
            connections=0,
            buffer=0,
            address="",
            seen_at=seen,
        )
    ]


def test_a_device_that_is_connected_says_since_when_from_where_and_what_waits(
    store: Store, hello: Tracked, clock: Clock
):
    attach(store, hello.user_id, "laptop")
    logged(store, hello, 5)
    ack(store, hello.user_id, "device", "laptop", 4)
    since = clock()
    connect(store, present(clock, hello.user_id, "laptop", sent=5, buffer=300, address="192.0.2.7"))
    clock.forward(5 * SECOND)
    beat(store, clock)
    assert devices(store, hello.user_id) == [
        Device(
            device="laptop",
            protocol="v2",
            cursor=at(store, 4),
            lag=1,
            connected_since=since,
            connections=1,
            buffer=300,
            address="192.0.2.7",
            seen_at=clock(),
        )
    ]


def test_a_device_that_is_connected_twice_is_one_device(store: Store, hello: Tracked, clock: Clock):
    attach(store, hello.user_id, "laptop")
    first = clock()
    connect(store, present(clock, hello.user_id, "laptop", id="a", buffer=300))
    clock.forward(SECOND)
    connect(store, present(clock, hello.user_id, "laptop", id="b", buffer=20, protocol="stream"))
    (device,) = devices(store, hello.user_id)
    assert (device.connections, device.buffer, device.connected_since) == (2, 320, first)


def test_a_stream_with_a_name_is_the_device_of_that_name(store: Store, hello: Tracked, clock: Clock):
    attach(store, hello.user_id, "browser")
    connect(store, present(clock, hello.user_id, "browser", protocol="stream"))
    (device,) = devices(store, hello.user_id)
    assert (device.device, device.protocol, device.connections) == ("browser", "stream", 1)


# A legacy client, and one that has no name.


def test_a_legacy_client_is_known_by_its_token(store: Store, hello: Tracked, clock: Clock):
    store.run(cursors.attach_legacy, hello.user_id, "session-1")
    logged(store, hello, 3)
    ack(store, hello.user_id, "session", "session-1", 2)
    connect(store, present(clock, hello.user_id, "session-1", protocol="legacy", sent=3))
    (device,) = devices(store, hello.user_id)
    assert (device.device, device.protocol, device.cursor, device.lag, device.connections) == (
        "session-1",
        "legacy",
        at(store, 2),
        1,
        1,
    )


def test_a_legacy_client_that_is_away_is_still_one(store: Store, hello: Tracked):
    store.run(cursors.attach_legacy, hello.user_id, "session-1")
    (device,) = devices(store, hello.user_id)
    assert (device.device, device.protocol, device.connections) == ("session-1", "legacy", 0)


def test_a_device_and_a_legacy_client_of_one_name_are_two(store: Store, hello: Tracked, clock: Clock):
    attach(store, hello.user_id, "twin")
    store.run(cursors.attach_legacy, hello.user_id, "twin")
    connect(store, present(clock, hello.user_id, "twin", protocol="legacy"))
    found = {each.protocol: each.connections for each in devices(store, hello.user_id)}
    assert found == {"legacy": 1, "v2": 0}


def test_the_cursor_that_legacy_clients_share_is_no_device(store: Store, hello: Tracked):
    assert devices(store, hello.user_id) == []


@pytest.mark.parametrize("protocol", ["v2", "stream", "legacy"])
def test_who_has_no_name_is_there_while_it_is_connected_and_as_far_as_it_was_sent(
    store: Store, hello: Tracked, clock: Clock, protocol: str
):
    logged(store, hello, 5)
    connect(store, present(clock, hello.user_id, "", id="a", protocol=protocol, sent=3))
    (device,) = devices(store, hello.user_id)
    assert (device.device, device.protocol, device.cursor, device.lag) == ("", protocol, at(store, 3), 2)
    assert device.seen_at == clock()
    store.run(presence.note, "one", (), ["a"])
    assert devices(store, hello.user_id) == []


def test_of_several_without_a_name_the_one_that_is_behind_counts(store: Store, hello: Tracked, clock: Clock):
    logged(store, hello, 5)
    connect(store, *(present(clock, hello.user_id, "", id=str(seq), sent=seq) for seq in (4, 2, 5)))
    (device,) = devices(store, hello.user_id)
    assert (device.connections, device.cursor, device.lag) == (3, at(store, 2), 3)


# How much it has yet to get.


def test_only_what_the_user_may_see_is_yet_to_come(store: Store, hello: Tracked, eve: Account):
    other = store.run(repositories.add, eve.id, "octo/other")
    attach(store, eve.id, "phone")
    logged(store, hello, 4)
    logged(store, other, 2)
    store.run(join, eve.id, hello.id)
    logged(store, hello, 3)
    (device,) = devices(store, eve.id)
    assert device.lag == 5


def test_where_a_filter_by_path_decides_nobody_can_count(store: Store, hello: Tracked):
    attach(store, hello.user_id, "laptop")
    store.run(members.set_filter, hello.user_id, hello.id, Filter(paths=("docs/*",)))
    assert devices(store, hello.user_id)[0].lag == 0
    logged(store, hello, 2)
    assert devices(store, hello.user_id)[0].lag is None


def test_what_the_users_filter_keeps_out_is_not_yet_to_come(store: Store, hello: Tracked):
    attach(store, hello.user_id, "laptop")
    store.run(members.set_filter, hello.user_id, hello.id, Filter(events=("star",)))
    logged(store, hello, 2)
    logged(store, hello, event="star")
    assert devices(store, hello.user_id)[0].lag == 1


def test_who_has_everything_has_nothing_yet_to_get(store: Store, hello: Tracked):
    attach(store, hello.user_id, "laptop")
    logged(store, hello, 2)
    ack(store, hello.user_id, "device", "laptop", 2)
    assert devices(store, hello.user_id)[0].lag == 0


# Whose they are, and which server says so.


def test_nobody_is_shown_what_is_another_users(store: Store, ada: Account, eve: Account, clock: Clock):
    attach(store, ada.id, "laptop")
    attach(store, eve.id, "phone")
    connect(store, present(clock, ada.id, "laptop"), present(clock, eve.id, "phone"))
    connect(store, present(clock, eve.id, "", id="x"), present(clock, eve.id, "laptop", id="y"))
    assert [(each.device, each.connections) for each in devices(store, ada.id)] == [("laptop", 1)]
    assert {each.device for each in devices(store, eve.id)} == {"phone", "laptop", ""}


def test_a_server_that_was_killed_is_not_believed_for_long(store: Store, ada: Account, clock: Clock):
    attach(store, ada.id, "laptop")
    connect(store, present(clock, ada.id, "laptop"), present(clock, ada.id, "", id="x"))
    clock.forward(ALIVE)
    assert [each.connections for each in devices(store, ada.id)] == [1, 1]
    clock.forward(SECOND)
    assert [(each.device, each.connections) for each in devices(store, ada.id)] == [("laptop", 0)]


def test_what_a_server_that_nobody_knows_says_is_not_believed(store: Store, ada: Account, clock: Clock):
    connect(store, present(clock, ada.id, "", id="x"), node="never seen")
    assert devices(store, ada.id) == []


def test_connections_at_all_living_servers_are_shown(store: Store, ada: Account, clock: Clock):
    attach(store, ada.id, "laptop")
    beat(store, clock, "two")
    connect(store, present(clock, ada.id, "laptop", id="a"), node="one")
    connect(store, present(clock, ada.id, "laptop", id="b"), node="two")
    assert [each.connections for each in devices(store, ada.id)] == [2]
    store.run(nodes.leave, "two")
    assert [each.connections for each in devices(store, ada.id)] == [1]
    assert store.look(rows) == {"a"}


def test_the_connected_come_first_and_then_the_last_seen(store: Store, ada: Account, clock: Clock):
    for name in ("old", "young", "here"):
        attach(store, ada.id, name)
        clock.forward(SECOND)
    connect(store, present(clock, ada.id, "old"))
    assert [each.device for each in devices(store, ada.id)] == ["old", "here", "young"]


# Forgetting.


def test_a_device_that_was_forgotten_begins_at_the_head(store: Store, hello: Tracked):
    attach(store, hello.user_id, "laptop")
    attach(store, hello.user_id, "phone")
    logged(store, hello, 3)
    store.run(presence.forget_device, hello.user_id, "laptop")
    assert [each.device for each in devices(store, hello.user_id)] == ["phone"]
    again = store.run(cursors.attach, hello.user_id, device="laptop", cursor=None)
    assert (again.resume, again.after) == ("new", 3)


def test_a_legacy_client_can_be_forgotten_and_starts_where_all_of_them_are(store: Store, hello: Tracked):
    store.run(cursors.attach_legacy, hello.user_id, "session-1")
    logged(store, hello, 3)
    store.run(presence.forget_device, hello.user_id, "session-1")
    assert devices(store, hello.user_id) == []
    assert store.run(cursors.attach_legacy, hello.user_id, "session-1").after == 0


def test_a_device_that_is_connected_can_be_forgotten_and_what_it_acknowledges_then_is_kept_nowhere(
    store: Store, hello: Tracked, clock: Clock
):
    attach(store, hello.user_id, "laptop")
    connect(store, present(clock, hello.user_id, "laptop"))
    store.run(presence.forget_device, hello.user_id, "laptop")
    logged(store, hello, 2)
    ack(store, hello.user_id, "device", "laptop", 2)
    (device,) = devices(store, hello.user_id)
    assert (device.connections, device.cursor) == (1, at(store, 0))


@pytest.mark.parametrize("name", ["lap", "Laptop", "laptop ", "", "phone", "%"])
def test_a_device_that_is_not_there_is_refused_by_its_name(
    store: Store, ada: Account, eve: Account, name: str
):
    attach(store, ada.id, "laptop")
    attach(store, eve.id, "phone")
    with pytest.raises(NotFound, match=f'no device "{name}"'):
        store.run(presence.forget_device, ada.id, name)
    assert [each.device for each in devices(store, ada.id)] == ["laptop"]
    assert [each.device for each in devices(store, eve.id)] == ["phone"]


def test_forgetting_devices_leaves_the_cursor_that_legacy_clients_share(store: Store, hello: Tracked):
    logged(store, hello, 3)
    store.run(cursors.acknowledge, hello.user_id, at(store, 2))
    with pytest.raises(NotFound):
        store.run(presence.forget_device, hello.user_id, "")
    assert store.run(cursors.attach_legacy, hello.user_id, "app").after == 2
