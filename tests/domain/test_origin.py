import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotexd.domain import origin
from cotexd.errors import Invalid

HOST = "cotex.example.com:8080"


def allows(given: str, *entries: str, host: str = HOST) -> bool:
    return origin.allows(given, [origin.parse(each) for each in entries], host)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("https://app.example.com", "https://app.example.com"),
        (" HTTPS://App.Example.com/ ", "https://app.example.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("cotex://app", "cotex://app"),
        ("tauri://localhost", "tauri://localhost"),
        ("https://*.example.com", "https://*.example.com"),
        ("*", "*"),
    ],
)
def test_an_entry_has_one_form(text: str, meant: str):
    assert origin.parse(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app.example.com",
        "https://",
        "https://app.example.com/path",
        "https://app.example.com?query",
        "https://app.example.com#part",
        "https://user@app.example.com",
        "https://*",
        "https://a.*.example.com",
        "https://*example.com",
        "https://*.*.example.com",
        "https://[",
        "null",
    ],
)
def test_what_is_no_origin_is_refused(text: str):
    with pytest.raises(Invalid):
        origin.parse(text)


@given(st.text())
def test_no_entry_is_too_odd_to_be_refused(text: str):
    with contextlib.suppress(Invalid):
        assert origin.parse(origin.parse(text)) == origin.parse(text)


def test_an_origin_on_the_list_is_allowed_and_no_other():
    listed = ("https://app.example.com", "cotex://app")
    assert allows("https://app.example.com", *listed)
    assert allows("HTTPS://APP.example.com", *listed)
    assert allows("cotex://app", *listed)
    for other in (
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.example",
        "https://evil-app.example.com",
        "cotex://other",
        "null",
        "",
    ):
        assert not allows(other, *listed), other


def test_subdomains_are_allowed_at_any_depth_and_not_the_domain_itself():
    assert allows("https://a.example.com", "https://*.example.com")
    assert allows("https://a.b.example.com", "https://*.example.com")
    for other in (
        "https://example.com",
        "https://.example.com",
        "https://evilexample.com",
        "https://a.example.com.evil.example",
        "http://a.example.com",
        "https://a.example.com:8443",
        "cotex://a.example.com",
    ):
        assert not allows(other, "https://*.example.com"), other


def test_a_port_belongs_to_the_origin_of_subdomains_too():
    assert allows("https://a.example.com:8443", "https://*.example.com:8443")
    assert not allows("https://a.example.com", "https://*.example.com:8443")


def test_a_page_of_the_servers_own_is_always_allowed():
    assert allows(f"https://{HOST}")
    assert allows(f"http://{HOST.upper()}")
    assert not allows("https://cotex.example.com")
    assert not allows(f"cotex://{HOST}")
    assert not allows("https://", host="")


def test_a_star_allows_all():
    assert allows("https://anything.example", "*")
    assert allows("null", "*")


@given(st.text())
def test_an_origin_that_nobody_listed_is_not_allowed(given: str):
    assert not allows(given, "https://one.example", "https://*.two.example")
