import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotexd.domain import address

TRUSTED = [ipaddress.ip_network(each) for each in ("10.0.0.0/8", "fd00::/8")]
PROXY, CLIENT, FORGED = "10.0.0.1", "203.0.113.9", "198.51.100.6"
ADDRESSES = st.ip_addresses().map(str)


def client(peer: str = PROXY, forwarded: str = "", x_forwarded_for: str = "") -> str:
    return address.client(peer, forwarded, x_forwarded_for, TRUSTED)


@given(ADDRESSES.filter(lambda each: not address.is_in(each, TRUSTED)), st.text(), st.text())
def test_from_whoever_is_no_proxy_of_ours_no_header_is_believed(peer: str, forwarded: str, other: str):
    assert client(peer, forwarded, other) == peer


@pytest.mark.parametrize("peer", ["", "a socket"])
def test_without_an_address_there_is_nothing_to_trust(peer: str):
    assert client(peer, x_forwarded_for=FORGED) == peer


def test_behind_a_proxy_the_client_is_whom_the_proxy_names():
    assert client(x_forwarded_for=CLIENT) == CLIENT
    assert client(forwarded=f"for={CLIENT};proto=https;by={PROXY}") == CLIENT
    assert client("fd00::1", x_forwarded_for="2001:db8::1") == "2001:db8::1"


def test_a_proxy_that_names_nobody_is_the_client_itself():
    assert client() == client(x_forwarded_for=" , ") == client(forwarded="proto=https") == PROXY


@given(st.lists(st.sampled_from([FORGED, "127.0.0.1", PROXY, "unknown", "", "x"]), max_size=30))
def test_what_a_client_says_of_itself_before_the_proxy_counts_for_nothing(said: list[str]):
    assert client(x_forwarded_for=", ".join([*said, CLIENT])) == CLIENT
    assert client(forwarded=", ".join([*(f"for={each}" for each in said), f"for={CLIENT}"])) == CLIENT


def test_several_proxies_of_ours_are_gone_through_one_by_one():
    assert client(x_forwarded_for=f"{FORGED}, {CLIENT}, 10.1.1.1, 10.2.2.2") == CLIENT
    assert client(forwarded=f"for={FORGED}, for={CLIENT}, for=10.1.1.1") == CLIENT


def test_where_only_proxies_are_named_the_first_of_them_is_the_client():
    assert client(x_forwarded_for="10.3.3.3, 10.2.2.2") == "10.3.3.3"


@pytest.mark.parametrize("hop", ["unknown", "_hidden", "", "1.2.3", "x" * 5000])
def test_a_hop_that_is_no_address_ends_what_can_be_believed(hop: str):
    assert client(x_forwarded_for=f"{FORGED}, {hop}, 10.2.2.2") == "10.2.2.2"
    assert client(forwarded=f'for={FORGED}, for="{hop}", for=10.2.2.2') == "10.2.2.2"


def test_only_so_many_hops_are_looked_at():
    hops = [CLIENT, *["10.9.9.9"] * address.MAX_HOPS]
    assert client(x_forwarded_for=",".join(hops)) == "10.9.9.9"
    assert client(x_forwarded_for=",".join(hops[:-1])) == CLIENT


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("for=192.0.2.43", "192.0.2.43"),
        ('FOR="192.0.2.43:4711"', "192.0.2.43"),
        ('for="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        ('for="[2001:db8:cafe::17]"', "2001:db8:cafe::17"),
        ("by=203.0.113.43; for=192.0.2.43 ;proto=http", "192.0.2.43"),
    ],
)
def test_forwarded_is_read_in_all_forms_of_its_rfc(written: str, meant: str):
    assert client(forwarded=written) == meant


def test_a_header_that_a_proxy_passes_on_unread_is_not_believed_against_the_one_that_it_writes():
    """Caddy, nginx and most others write X-Forwarded-For, and hand a client's own Forwarded through."""
    assert client(forwarded=f"for={FORGED}", x_forwarded_for=CLIENT) != FORGED


def test_an_address_in_another_parameter_of_forwarded_is_no_hop():
    assert client(forwarded=f"for={CLIENT};host=for={FORGED}") == CLIENT
    assert client(forwarded=f'for={CLIENT};host="x for={FORGED} x"') == CLIENT


def test_an_unclosed_quote_of_the_clients_swallows_no_entry_of_the_proxys():
    assert client(forwarded='for=", for="[2001:db8::1]:4711"') == "2001:db8::1"


@given(st.text(), st.text())
def test_no_header_is_too_odd_to_be_read(forwarded: str, x_forwarded_for: str):
    found = client(forwarded=forwarded, x_forwarded_for=x_forwarded_for)
    assert address.parse(found) is not None


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:80", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_an_address_is_read_with_or_without_a_port(text: str, meant: str):
    assert str(address.parse(text)) == meant


@pytest.mark.parametrize(
    "text", ["", "x", "1.2.3", "1.2.3.4.5", "256.0.0.1", "[", "[]", "1.2.3.4:5:6", "0x7f.1", "1.2.3.4 "]
)
def test_what_is_no_address_is_none(text: str):
    assert address.parse(text) is None


def test_one_subscriber_of_ipv6_is_limited_as_one():
    assert address.group("2001:db8:1:2:3::4") == address.group("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert address.group("2001:db8:1:3::4") != address.group("2001:db8:1:2::4")


def test_each_address_of_ipv4_is_limited_by_itself_however_it_is_written():
    assert address.group("192.0.2.1") == address.group("::ffff:192.0.2.1") == "192.0.2.1"


@pytest.mark.parametrize(
    ("text", "is_it"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_this_machine_is_known(text: str, is_it: bool):
    assert address.is_loopback(text) is is_it


def test_an_address_is_in_a_network_of_its_own_kind():
    assert address.is_in("10.1.2.3", TRUSTED)
    assert address.is_in("::ffff:10.1.2.3", TRUSTED)
    assert address.is_in("fd12::1", TRUSTED)
    assert not address.is_in("11.1.2.3", TRUSTED)
    assert not address.is_in("10.1.2.3", [])
