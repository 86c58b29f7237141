"""What the configuration says of who may come in; test_config.py has the rest."""

import ipaddress
from pathlib import Path
from typing import Any

import pytest

from cotexd import config
from cotexd.config import Settings
from cotexd.domain.tokens import Issuer
from cotexd.errors import Invalid

SECRET = "super-secret-jwt-token-with-at-least-32-characters"
PROJECT = "https://abc.supabase.example"
OTHER = """
[[auth.issuers]]
issuer = "https://id.example.com"
audience = "cotex"
jwks_url = "https://id.example.com/keys"
"""


def load(flags: dict[str, object] | None = None, **environment: str) -> Settings:
    return config.load(flags, environment)


def from_file(file: Path, text: str, **environment: str) -> Settings:
    file.write_text(text)
    return load({"config": str(file)}, **environment)


def problems(*given: Any, **environment: str) -> list[str]:
    """What is wrong, one line each."""
    with pytest.raises(Invalid) as caught:
        from_file(*given, **environment) if given else load(None, **environment)
    return [line.strip() for line in caught.value.message.splitlines()[1:]]


def trusted(**environment: str) -> tuple[Issuer, ...]:
    return config.trusted_issuers(load(None, **environment))


def origin(settings: Settings, key: str) -> str:
    return next(each.origin for each in config.shown(settings) if each.key == key)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cotex.toml"


# Supabase.


def test_without_anything_nobody_outside_is_trusted():
    assert trusted() == ()
    assert load().auto_provision is True
    assert load().allowed_origins == load().trusted_proxies == load().email_domains == ()
    assert load().rate_limit == 600


def test_a_supabase_project_signs_with_the_keys_that_it_publishes():
    assert trusted(COTEX_SUPABASE_URL=PROJECT + "/") == (
        Issuer(
            f"{PROJECT}/auth/v1",
            "authenticated",
            ("ES256", "RS256"),
            f"{PROJECT}/auth/v1/.well-known/jwks.json",
        ),
    )


def test_with_its_legacy_secret_it_may_sign_with_that_as_well():
    (project,) = trusted(COTEX_SUPABASE_URL=PROJECT, COTEX_SUPABASE_JWT_SECRET=SECRET)
    assert (project.algorithms, project.secret) == (("ES256", "RS256", "HS256"), SECRET)


def test_a_project_of_ones_own_may_have_another_name_as_issuer_and_plain_http():
    (project,) = trusted(
        COTEX_SUPABASE_URL="http://kong:8000", COTEX_SUPABASE_ISSUER="https://auth.example.com"
    )
    assert project.iss == "https://auth.example.com"
    assert project.jwks_url == "http://kong:8000/auth/v1/.well-known/jwks.json"


def test_with_an_issuer_and_a_secret_only_nothing_is_fetched():
    (project,) = trusted(COTEX_SUPABASE_ISSUER="supabase", COTEX_SUPABASE_JWT_SECRET=SECRET)
    assert (project.algorithms, project.jwks_url) == (("HS256",), "")


def test_an_issuer_with_nothing_to_check_its_tokens_with_is_a_contradiction():
    (problem,) = problems(COTEX_SUPABASE_ISSUER="supabase")
    assert "supabase.issuer" in problem


def test_a_secret_that_nobody_is_said_to_sign_with_is_a_contradiction():
    (problem,) = problems(COTEX_SUPABASE_JWT_SECRET=SECRET)
    assert problem.startswith("supabase.jwt_secret needs supabase.url")
    assert SECRET not in problem


# The variables of the hosted backend.


def test_the_hosted_backends_variables_are_understood():
    settings = load(
        SUPABASE_URL=PROJECT,
        SUPABASE_JWT_SECRET=SECRET,
        ALLOWED_ORIGINS="https://app.example.com,cotex://app",
        RATE_LIMIT="100",
        PORT="9000",
    )
    assert (settings.supabase_url, settings.supabase_jwt_secret) == (PROJECT, SECRET)
    assert settings.allowed_origins == ("https://app.example.com", "cotex://app")
    assert (settings.rate_limit, settings.port) == (100, 9000)
    assert origin(settings, "supabase.url") == "SUPABASE_URL"


@pytest.mark.parametrize(
    ("hosted", "its", "ours", "value", "name"),
    [
        ("SUPABASE_URL", "https://other.example", "COTEX_SUPABASE_URL", PROJECT, "supabase_url"),
        ("ALLOWED_ORIGINS", "*", "COTEX_ALLOWED_ORIGINS", "", "allowed_origins"),
        ("RATE_LIMIT", "100", "COTEX_RATE_LIMIT", "5", "rate_limit"),
        ("PORT", "9000", "COTEX_PORT", "1", "port"),
    ],
)
def test_our_own_variables_go_before_them(hosted: str, its: str, ours: str, value: str, name: str):
    settings = load(None, **{hosted: its, ours: value})
    assert (
        getattr(settings, name)
        == getattr(load(None, **{ours: value}), name)
        != getattr(load(None, **{hosted: its}), name)
    )


def test_they_go_before_the_file_and_a_flag_before_them(file: Path):
    assert from_file(file, "port = 1\n", PORT="2").port == 2
    assert load({"port": "3"}, PORT="2").port == 3


def test_one_that_is_empty_says_nothing(file: Path):
    assert from_file(file, "port = 1\nrate_limit = 7\n", PORT="", RATE_LIMIT="").port == 1
    assert trusted(SUPABASE_URL="", SUPABASE_JWT_SECRET="") == ()


def test_one_that_is_not_good_is_said_under_its_own_name():
    assert problems(RATE_LIMIT="10-S") == ["rate_limit must be a number from 1 to 1000000 (RATE_LIMIT)"]


def test_one_that_is_not_good_does_no_harm_where_ours_is_set():
    """PORT and RATE_LIMIT are names that others use for other things."""
    assert load(None, PORT="tcp://10.0.0.1:80", COTEX_PORT="1").port == 1
    assert load(None, RATE_LIMIT="10-S", COTEX_RATE_LIMIT="5").rate_limit == 5


# Other issuers.


def test_several_issuers_stand_side_by_side(file: Path):
    text = (
        OTHER
        + '[[auth.issuers]]\nissuer = "b"\naudience = "c"\nalgorithms = ["HS256"]\n'
        + f'secret = "{SECRET}"'
    )
    settings = from_file(file, text, COTEX_SUPABASE_URL=PROJECT)
    assert [each.iss for each in config.trusted_issuers(settings)] == [
        f"{PROJECT}/auth/v1",
        "https://id.example.com",
        "b",
    ]


def test_an_issuer_that_is_named_twice_is_a_contradiction(file: Path):
    assert problems(file, OTHER + OTHER) == ["https://id.example.com is named as an issuer twice"]
    supabase = OTHER.replace("https://id.example.com", f"{PROJECT}/auth/v1")
    (problem,) = problems(file, supabase, COTEX_SUPABASE_URL=PROJECT)
    assert problem == f"{PROJECT}/auth/v1 is named as an issuer twice"


@pytest.mark.parametrize("iss", ["cotexd", "https://cotex.example.com/auth/v1"])
def test_the_servers_own_issuers_are_nobody_elses(file: Path, iss: str):
    text = OTHER.replace('"https://id.example.com"', f'"{iss}"')
    found = problems(file, text, COTEX_PUBLIC_URL="https://cotex.example.com")
    assert found == [f"{iss} is the server's own issuer"]


def test_without_a_public_address_the_servers_own_issuer_has_a_name_all_the_same(file: Path):
    assert config.own_issuer(load()) == "cotexd/auth/v1"
    assert problems(file, OTHER.replace('"https://id.example.com"', '"cotexd/auth/v1"')) == [
        "cotexd/auth/v1 is the server's own issuer"
    ]


def test_a_table_that_is_wrong_is_said_with_where_it_stands(file: Path):
    (problem,) = problems(file, OTHER.replace("jwks_url", "jwk_url"))
    assert problem.startswith("auth.issuers is not a list of issuers")
    assert "jwk_url" in problem and str(file) in problem


def test_all_contradictions_are_said_at_once(file: Path):
    found = problems(file, OTHER + OTHER + "[tls]\ncert = '/c'\n", COTEX_SUPABASE_JWT_SECRET=SECRET)
    assert len(found) == 3


def test_no_secret_of_an_issuer_is_shown_or_printed(file: Path):
    table = f'[[auth.issuers]]\nissuer = "b"\naudience = "c"\nalgorithms = ["HS256"]\nsecret = "{SECRET}"\n'
    settings = from_file(file, table, COTEX_SUPABASE_URL=PROJECT, COTEX_SUPABASE_JWT_SECRET=SECRET)
    shown = {each.key: each.value for each in config.shown(settings)}
    assert (shown["auth.issuers"], shown["supabase.jwt_secret"]) == ("***", "***")
    assert SECRET not in repr(settings) + str(shown)


def test_a_secret_can_lie_in_a_file_of_its_own(tmp_path: Path):
    (tmp_path / "secret").write_text(SECRET + "\n")
    settings = load(COTEX_SUPABASE_URL=PROJECT, COTEX_SUPABASE_JWT_SECRET_FILE=str(tmp_path / "secret"))
    assert settings.supabase_jwt_secret == SECRET


# Who is made, and from where one may call.


def test_users_may_be_made_of_nobody_or_of_some_domains_only(file: Path):
    settings = load(COTEX_AUTH_AUTO_PROVISION="false", COTEX_AUTH_EMAIL_DOMAINS="Example.com, @corp.example")
    assert (settings.auto_provision, settings.email_domains) == (False, ("example.com", "corp.example"))
    settings = from_file(file, '[auth]\nauto_provision = false\nemail_domains = ["@Example.com"]\n')
    assert (settings.auto_provision, settings.email_domains) == (False, ("example.com",))


def test_origins_and_proxies_are_lists_here_and_there(file: Path):
    there = load(
        COTEX_ALLOWED_ORIGINS="https://app.example.com/, https://*.example.com,cotex://app",
        COTEX_TRUSTED_PROXIES="10.0.0.0/8,::1",
        COTEX_METRICS_NETWORKS="192.0.2.7",
    )
    text = """
        allowed_origins = ["https://app.example.com", "https://*.example.com", "cotex://app"]
        trusted_proxies = ["10.0.0.0/8", "::1"]
        [metrics]
        networks = ["192.0.2.7"]
    """
    here = from_file(file, text)
    for settings in (here, there):
        assert settings.allowed_origins == ("https://app.example.com", "https://*.example.com", "cotex://app")
        assert settings.trusted_proxies == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1"))
        assert settings.metrics_networks == (ipaddress.ip_network("192.0.2.7"),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COTEX_ALLOWED_ORIGINS", "app.example.com"),
        ("COTEX_ALLOWED_ORIGINS", "https://app.example.com/path"),
        ("COTEX_ALLOWED_ORIGINS", "https://["),
        ("COTEX_TRUSTED_PROXIES", "10.0.0.0/8 10.1.0.0/16"),
        ("COTEX_METRICS_NETWORKS", "office"),
        ("COTEX_RATE_LIMIT", "0"),
        ("COTEX_AUTH_AUTO_PROVISION", "maybe"),
        ("COTEX_AUTH_ISSUERS", "https://id.example.com"),
    ],
)
def test_what_cannot_be_is_refused_under_the_name_of_its_variable(name: str, value: str):
    (problem,) = problems(**{name: value})
    assert problem.endswith(f"({name})")


def test_a_certificate_and_its_key_go_together():
    for name in ("COTEX_TLS_CERT", "COTEX_TLS_KEY"):
        assert problems(**{name: "/x"}) == ["tls.cert and tls.key go together: one of them is missing"]
    settings = load(COTEX_TLS_CERT="/c.pem", COTEX_TLS_KEY="/k.pem")
    assert (settings.tls_cert, settings.tls_key) == (Path("/c.pem"), Path("/k.pem"))
