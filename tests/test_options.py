import contextlib
import ipaddress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cotexd import options
from cotexd.domain.tokens import Issuer
from cotexd.errors import Invalid

SECRET = "a-secret-of-an-issuer-that-must-not-be-seen"
TABLE = {"issuer": "https://id.example.com", "audience": "cotex", "jwks_url": "https://id.example.com/keys"}

FORMS: dict[str, options.Parse] = {
    "text": options.text,
    "host": options.host,
    "port": options.port,
    "flag": options.flag,
    "one_of": options.one_of("a", "b"),
    "seconds": options.seconds(1, 300),
    "between": options.between(timedelta(seconds=1), timedelta(days=1)),
    "url": options.url,
    "path": options.path,
    "count": options.count(1, 100),
    "list_of": options.list_of(options.network),
    "issuers": options.issuers,
}
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@given(value=ODD | st.text("~/.:@[]*0123456789abhtps,"))
def test_no_value_is_too_odd_to_be_refused(form: options.Parse, value: object):
    with contextlib.suppress(Invalid):
        form(value)


@pytest.mark.parametrize("form", [each for name, each in FORMS.items() if name not in {"text", "list_of"}])
def test_what_is_wrong_is_said_so_that_it_goes_on_after_the_options_name(form: options.Parse):
    with pytest.raises(Invalid, match=r"^(must be|is not|need) "):
        form(5.5)


@given(st.text("0123456789", min_size=1, max_size=30))
@example("0000000000080")
def test_a_number_is_that_number_or_refused(text: str):
    for form in (options.port, options.count(0, 65535)):
        try:
            assert form(text) == int(text)
        except Invalid:
            assert int(text) > 65535 or text.startswith("0")


@pytest.mark.parametrize("value", ["0", "101", "-1", "1.0", "1e1", " 5", "٣", True, 5.0, None])
def test_a_count_out_of_its_bounds_or_of_another_form_is_refused(value: object):
    with pytest.raises(Invalid, match="a number from 1 to 100"):
        options.count(1, 100)(value)


def test_a_count_is_a_number_or_its_text():
    assert options.count(1, 100)("100") == options.count(1, 100)(100) == 100


@pytest.mark.parametrize("value", [120, "120", "120s", "2m", " 2m ", "0120"])
def test_seconds_are_a_bare_number_or_a_duration(value: object):
    assert options.seconds(0, 300)(value) == timedelta(minutes=2)


@pytest.mark.parametrize(
    "value",
    [9, 301, "9", "301", "6m", "1d", -20, "-20", 20.0, "20.0", "2e1", "٢٠", "", "s", True, None, [20]],
)
def test_seconds_out_of_their_bounds_or_of_another_form_are_refused(value: object):
    with pytest.raises(Invalid, match=r"^must be "):
        options.seconds(10, 300)(value)


def test_the_bounds_of_seconds_are_within_them_and_are_told():
    form = options.seconds(10, 300)
    assert (form(10), form("5m")) == (timedelta(seconds=10), timedelta(minutes=5))
    with pytest.raises(Invalid, match="from 10s to 5m"):
        form(301)


@pytest.mark.parametrize("value", ["a,b", " a , b ", "a,,b,", ["a", "b"], ["a", " b "]])
def test_a_list_is_one_or_is_written_with_commas(value: object):
    assert options.list_of(str)(value) == ("a", "b")


def test_a_list_may_be_empty():
    for value in ("", " ", ",", []):
        assert options.list_of(str)(value) == ()


@pytest.mark.parametrize("value", [5, None, {"a": 1}, [1], ["a", None], [["a"]]])
def test_what_is_no_list_of_texts_is_refused(value: object):
    with pytest.raises(Invalid, match="list of texts"):
        options.list_of(str)(value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("127.0.0.1", "127.0.0.1/32"),
        ("fd00::/8", "fd00::/8"),
        ("::1", "::1/128"),
    ],
)
def test_a_network_is_one_or_a_single_address(text: str, meant: str):
    assert options.network(text) == ipaddress.ip_network(meant)


@pytest.mark.parametrize("text", ["x", "10.0.0.0/33", "10.0.0", "localhost", "10.0.0.0-10.0.0.9"])
def test_what_is_no_network_is_refused_by_name(text: str):
    with pytest.raises(Invalid, match="not a network") as caught:
        options.list_of(options.network)(f"10.0.0.0/8, {text}")
    assert text in caught.value.message


def test_a_domain_is_written_with_or_without_its_at():
    assert options.list_of(options.domain)("Example.com, @corp.example") == ("example.com", "corp.example")


@pytest.mark.parametrize("text", ["", "  ", "~nobody-of-this-name/x"])
def test_a_path_that_leads_nowhere_is_refused(text: str):
    with pytest.raises(Invalid):
        options.path(text)


def test_a_path_is_absolute():
    assert options.path("x/y") == Path("x/y").absolute()


# Issuers, each a table of the file.


def issuers(**changes: Any) -> tuple[Issuer, ...]:
    table = {**TABLE, **changes}
    return options.issuers([{name: value for name, value in table.items() if value is not None}])


def test_an_issuer_signs_with_published_keys_unless_told():
    assert issuers() == (
        Issuer("https://id.example.com", "cotex", ("ES256", "RS256"), "https://id.example.com/keys"),
    )


def test_an_issuer_may_sign_with_a_secret_or_with_both():
    (one,) = issuers(algorithms=["HS256"], secret=SECRET, jwks_url=None)
    assert (one.algorithms, one.secret, one.jwks_url) == (("HS256",), SECRET, "")
    (both,) = issuers(algorithms=["RS256", "HS256"], secret=SECRET)
    assert both.algorithms == ("RS256", "HS256")


def test_an_issuer_may_be_trusted_with_its_addresses():
    assert [each.trust_email for each in (*issuers(), *issuers(trust_email=True))] == [False, True]


def test_an_issuers_keys_may_lie_behind_plain_http_where_that_is_configured():
    assert issuers(jwks_url="http://127.0.0.1:9999/keys")[0].jwks_url == "http://127.0.0.1:9999/keys"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"issuer": None}, "missing required field"),
        ({"audience": None}, "missing required field"),
        ({"issuer": ""}, "an issuer and an audience"),
        ({"audience": ""}, "an issuer and an audience"),
        ({"issuer": 5}, "str"),
        ({"algorithms": ["none"]}, "Invalid enum value"),
        ({"algorithms": ["HS512"], "secret": SECRET}, "Invalid enum value"),
        ({"algorithms": ["HS256"]}, "a secret for HS256, and only for that"),
        ({"secret": SECRET}, "a secret for HS256, and only for that"),
        ({"jwks_url": None}, "a jwks_url"),
        ({"jwks_url": "id.example.com/keys"}, "https://"),
        ({"jwks_url": "file:///etc/keys"}, "https://"),
        ({"algorithms": ["ES256", "HS256"], "secret": SECRET, "jwks_url": None}, "a jwks_url"),
        ({"jwk_url": "https://x"}, "unknown field"),
        ({"trust_email": "yes"}, "bool"),
    ],
    ids=repr,
)
def test_an_issuer_that_cannot_be_is_refused_and_its_secret_not_told(changes: dict[str, Any], why: str):
    with pytest.raises(Invalid, match=why) as caught:
        issuers(**changes)
    assert SECRET not in caught.value.message


def test_an_issuer_without_an_algorithm_could_sign_nothing_and_is_refused():
    with pytest.raises(Invalid):
        issuers(algorithms=[], jwks_url=None)


def test_a_secret_that_is_too_short_to_sign_with_is_refused():
    """RFC 7518, 3.2: as long as the hash. Each of its tokens would be refused, and nobody would know why."""
    with pytest.raises(Invalid):
        issuers(algorithms=["HS256"], secret="short", jwks_url=None)


@pytest.mark.parametrize("value", ["https://id.example.com", {"issuer": "x"}, 5, [5], ["x"]])
def test_what_is_no_list_of_tables_is_refused(value: object):
    with pytest.raises(Invalid, match="not a list of issuers"):
        options.issuers(value)
