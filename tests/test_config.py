from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from cotexd import config
from cotexd.config import Settings
from cotexd.errors import Invalid

SECRET = "a-secret-that-must-not-be-seen"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cotex.toml"


def load(flags: dict[str, object] | None = None, **environment: str) -> Settings:
    return config.load(flags, environment)


def origin(settings: Settings, key: str) -> str:
    return next(each.origin for each in config.shown(settings) if each.key == key)


def problems(flags: dict[str, object] | None = None, **environment: str) -> list[str]:
    """What is wrong, one line each."""
    with pytest.raises(Invalid) as caught:
        load(flags, **environment)
    return [line.strip() for line in caught.value.message.splitlines()[1:]]


def test_without_anything_the_defaults_hold_and_nobody_else_can_connect():
    settings = load()
    assert (settings.host, settings.port, settings.database, settings.file) == ("127.0.0.1", 8080, "", None)
    assert (settings.retention, settings.accept_sha1) == (timedelta(days=14), True)
    assert settings.data_dir.is_absolute()
    assert {each.origin for each in config.shown(settings)} == {"default"}


def test_flags_go_before_the_environment_that_before_the_file_and_that_before_the_defaults(file: Path):
    file.write_text("port = 1\nretention = '1d'\ndrain_seconds = 1\n")
    settings = load({"config": str(file), "port": "3"}, COTEX_PORT="2", COTEX_RETENTION="2d")
    assert (settings.port, settings.retention, settings.drain) == (
        3,
        timedelta(days=2),
        timedelta(seconds=1),
    )
    assert settings.log_level == "info"
    assert [origin(settings, key) for key in ("port", "retention", "drain_seconds", "log.level")] == [
        "--port",
        "COTEX_RETENTION",
        str(file),
        "default",
    ]


def test_a_flag_that_was_not_given_changes_nothing():
    assert load({"port": None}, COTEX_PORT="2").port == 2


def test_a_flag_that_is_given_as_nothing_or_zero_is_given():
    settings = load({"port": 0, "public_url": ""}, COTEX_PORT="2", COTEX_PUBLIC_URL="https://x")
    assert (settings.port, settings.public_url) == (0, "")


# The issuers are tables, which only a file can have.
@pytest.mark.parametrize(
    "option", [each for each in config.declared() if each.name != "issuers"], ids=config.key_of
)
def test_every_option_can_be_set_in_the_file_and_in_the_environment(option, file: Path):
    examples = {"log.level": "debug", "log.format": "json", "webhooks.accept_sha1": "false", "port": "1"}
    examples |= {
        "retention": "3d",
        "drain_seconds": "3",
        "max_connections": "9",
        "max_connections_per_user": "3",
        "public_url": "https://x",
        "host": "h",
        "data_dir": "/d",
    }
    examples |= {"allowed_origins": "cotex://app", "rate_limit": "5", "trusted_proxies": "10.0.0.0/8"}
    examples |= {
        "metrics.networks": "10.0.0.0/8",
        "auth.auto_provision": "false",
        "supabase.trust_email": "true",
        "supabase.url": "https://x",
    }
    examples |= {"stripe.api_url": "https://x", "billing.trial_days": "5", "billing.seats": "5"}
    examples |= {"github.api_url": "https://x", "github.ca_cert": "/c", "repair_interval": "3"}
    examples |= {"backup.every": "1d", "backup.keep": "3", "backup.folder": "/b", "backup.passphrase": "p"}
    examples |= {"billing.promotion_codes": "true", "billing.automatic_tax": "true", "billing.grace": "3d"}
    # What goes with another is set together with it.
    beside = {"tls.cert": ("key", "/k"), "tls.key": ("cert", "/c"), "supabase.jwt_secret": ("issuer", "i")}
    beside |= {"supabase.issuer": ("jwt_secret", "s" * 32)}
    examples |= {"supabase.jwt_secret": "s" * 32}
    key = config.key_of(option)
    value = examples.get(key, "text")
    table, _, name = key.rpartition(".")
    lines, variables = [f"{name} = '{value}'"], {config.variable_of(option): value}
    if key in beside:
        other, its = beside[key]
        lines.append(f"{other} = '{its}'")
        variables[f"COTEX_{table}_{other}".upper()] = its
    file.write_text((f"[{table}]\n" if table else "") + "\n".join(lines) + "\n")
    in_file = getattr(load({"config": str(file)}), option.name)
    outside = getattr(load(None, **variables), option.name)
    assert in_file == outside != option.default


def test_the_file_in_the_data_folder_is_read(tmp_path: Path, file: Path):
    file.write_text("port = 1\n")
    settings = load(None, COTEX_DATA_DIR=str(tmp_path))
    assert (settings.port, settings.file, settings.data_dir) == (1, file, tmp_path)


def test_a_file_that_is_named_goes_before_the_one_in_the_data_folder(tmp_path: Path, file: Path):
    file.write_text("port = 1\n")
    (tmp_path / "other.toml").write_text("port = 2\n")
    settings = load(None, COTEX_DATA_DIR=str(tmp_path), COTEX_CONFIG=str(tmp_path / "other.toml"))
    assert settings.port == 2
    assert load({"config": str(file)}, COTEX_CONFIG=str(tmp_path / "other.toml")).port == 1


def test_a_file_that_is_named_must_be_there(tmp_path: Path):
    assert problems(None, COTEX_CONFIG=str(tmp_path / "none.toml")) == [
        f"{tmp_path / 'none.toml'} cannot be read: No such file or directory"
    ]


@pytest.mark.parametrize("content", [b"port = = 1", b"port = '\xff'"])
def test_a_file_that_is_not_toml_is_refused(file: Path, content: bytes):
    file.write_bytes(content)
    (problem,) = problems({"config": str(file)})
    assert str(file) in problem


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("prot = 1", "Did you mean port?"),
        ("[log]\nlevl = 'info'", "Did you mean log.level?"),
        ("log = 'info'", "log.level"),
        ("[host]\nname = 'x'", "Did you mean host?"),
    ],
)
def test_an_unknown_key_is_an_error_that_says_what_was_meant(file: Path, line: str, meant: str):
    file.write_text(line)
    (problem,) = problems({"config": str(file)})
    assert meant in problem
    assert str(file) in problem


def test_a_key_that_is_like_none_is_an_error_without_a_guess(file: Path):
    file.write_text("zzzzzz = 1")
    (problem,) = problems({"config": str(file)})
    assert problem == f"There is no option zzzzzz ({file})"


@pytest.mark.parametrize("name", ["COTEX_PROT", "COTEX_LOG_LEVL", "COTEX_DATABASE_FIL"])
def test_a_slip_in_a_variables_name_is_an_error(name: str):
    (problem,) = problems(None, **{name: "1"})
    assert problem.startswith(f"There is no variable {name}. Did you mean COTEX_")


def test_variables_of_others_with_the_prefix_do_no_harm():
    """Kubernetes makes such ones for a service that is named cotex."""
    load(None, COTEX_SERVICE_HOST="10.0.0.1", COTEX_PORT_8080_TCP_ADDR="10.0.0.1", OTHER="x")


def test_all_that_is_wrong_is_said_at_once(file: Path):
    file.write_text("retention = 5\nprot = 1\n[log]\nlevel = 'loud'\n")
    found = problems({"config": str(file), "drain": "soon"}, COTEX_PORT="many", COTEX_KEY_FILE="/none")
    assert len(found) == 6
    for part in ("retention", "prot", "log.level", "drain_seconds", "port must", "COTEX_KEY_FILE"):
        assert sum(line.startswith(part) or f" {part}" in line for line in found) >= 1, (part, found)


def test_what_is_wrong_says_where_it_came_from(file: Path):
    file.write_text("port = 1\n")
    assert problems({"config": str(file)}, COTEX_PORT="many") == [
        "port must be a number from 0 to 65535 (COTEX_PORT)"
    ]
    assert problems({"port": "-1"}) == ["port must be a number from 0 to 65535 (--port)"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "65536"),
        ("port", "8080 "),
        ("port", "٣"),
        ("host", ""),
        ("host", "http://x"),
        ("data_dir", ""),
        ("public_url", "example.com"),
        ("public_url", "ftp://example.com"),
        ("public_url", "https://"),
        ("public_url", "http://[::1"),
        ("public_url", "http://example.com:port"),
        ("retention", "59s"),
        ("retention", "366d"),
        ("retention", "14"),
        ("drain", "6m"),
        ("drain", "301"),
        ("drain", "-1"),
        ("max_connections", "0"),
        ("max_connections_per_user", "many"),
        ("log_level", "LOUD"),
        ("log_format", "xml"),
        ("accept_sha1", "perhaps"),
    ],
)
def test_a_value_that_cannot_be_is_refused(name: str, value: str):
    (problem,) = problems({name: value})
    assert "must be" in problem
    assert "--" + name.replace("_", "-") in problem


@pytest.mark.parametrize("line", ["port = true", "port = 1.5", "host = 1", "key = 1", "log.level = []"])
def test_a_value_of_another_type_is_refused(file: Path, line: str):
    file.write_text(line)
    (problem,) = problems({"config": str(file)})
    assert "must be" in problem


def test_a_file_may_say_numbers_and_truths_in_tomls_own_way(file: Path):
    file.write_text("port = 9\n[webhooks]\naccept_sha1 = false\n")
    settings = load({"config": str(file)})
    assert (settings.port, settings.accept_sha1) == (9, False)


def test_an_address_is_kept_without_its_last_slash():
    assert load({"public_url": "https://cotex.example.com/"}).public_url == "https://cotex.example.com"


def test_a_folder_is_made_absolute_and_knows_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert load({"data_dir": "~/data"}).data_dir == load({"data_dir": "data"}).data_dir == tmp_path / "data"


def test_a_value_can_lie_in_a_file_of_its_own(tmp_path: Path):
    (tmp_path / "key").write_text(f"{SECRET}\n")
    settings = load(None, COTEX_KEY_FILE=str(tmp_path / "key"))
    assert settings.key == SECRET
    assert origin(settings, "key") == "COTEX_KEY_FILE"


def test_a_file_of_a_value_that_cannot_be_read_is_an_error(tmp_path: Path):
    assert problems(None, COTEX_KEY_FILE=str(tmp_path / "none")) == [
        f"COTEX_KEY_FILE names a file that cannot be read: {tmp_path / 'none'}"
    ]


def test_secrets_are_never_shown():
    url = f"postgresql://cotex:{SECRET}@db.example.com/cotex?sslpassword={SECRET}"
    settings = load(None, COTEX_KEY=SECRET, COTEX_DATABASE=url)
    shown = {each.key: each.value for each in config.shown(settings)}
    assert shown["key"] == "***"
    assert "db.example.com" in shown["database"]
    assert SECRET not in str(config.shown(settings))


def test_settings_are_printed_without_secrets():
    settings = load(None, COTEX_KEY=SECRET, COTEX_DATABASE=f"postgresql://cotex:{SECRET}@db/cotex")
    assert SECRET not in repr(settings) + str(settings)


@pytest.mark.parametrize("url", [f"postgresql://u:[{SECRET}@db/x", f"host=db password={SECRET}"])
def test_a_database_that_is_odd_is_shown_without_its_password(url: str):
    shown = {each.key: each.value for each in config.shown(load(None, COTEX_DATABASE=url))}
    assert SECRET not in shown["database"]


def test_no_secret_is_in_what_is_said_to_be_wrong(file: Path):
    file.write_text(f"key = ['{SECRET}']\ndatabase = {{ url = '{SECRET}' }}\n")
    assert SECRET not in "\n".join(problems({"config": str(file)}))


def test_a_secret_that_is_empty_is_shown_as_that():
    shown = {each.key: each.value for each in config.shown(load())}
    assert (shown["key"], shown["database"]) == ("", "")


def test_values_are_shown_as_they_are_written():
    shown = {each.key: each.value for each in config.shown(load({"retention": "336h", "accept_sha1": "no"}))}
    assert (shown["retention"], shown["webhooks.accept_sha1"], shown["port"]) == ("14d", "false", "8080")


def test_every_option_says_what_it_is_for():
    assert all(each.about for each in config.shown(load()))
    assert {each.name for each in fields(Settings)} - {each.name for each in config.declared()} == {
        "origins",
        "file",
    }


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_an_address_that_only_this_machine_reaches_is_known_as_that(host: str):
    assert config.is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com"])  # noqa: S104  # not bound
def test_an_address_that_others_reach_is_known_as_that(host: str):
    assert not config.is_loopback(host)
