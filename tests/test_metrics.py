import re
from pathlib import Path

import pytest
from conftest import Server
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

import cotexd
from cotexd import metrics

DECLARED: dict[str, Collector] = {
    name: value for name, value in vars(metrics).items() if isinstance(value, Counter | Gauge | Histogram)
}
FAMILIES = {each.name: each for each in metrics.REGISTRY.collect()}
UNITS = ("seconds", "bytes", "info", "seq", "jobs", "events", "total")


def test_there_are_enough_to_see_what_goes_on():
    assert len(FAMILIES) == len(DECLARED) >= 30
    assert sum(each.type == "histogram" for each in FAMILIES.values()) >= 8


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_each_is_named_and_told_about_as_prometheus_wants_it(name: str):
    family = FAMILIES[name]
    assert re.fullmatch(r"cotexd(_[a-z0-9]+)+", name)
    assert re.fullmatch(r"[A-Z0-9].*\.", family.documentation)
    if family.type == "histogram":
        assert name.endswith(UNITS)
    else:
        assert not name.endswith(("_bucket", "_count", "_sum", "_total"))
    if family.type == "gauge":
        assert not name.endswith("_total")


def test_no_label_grows_with_the_users_or_the_repositories():
    labels = {label for each in DECLARED.values() for label in each._labelnames}
    assert not labels & {
        "user",
        "user_id",
        "repo",
        "repo_id",
        "device",
        "delivery",
        "address",
        "token",
        "request_id",
    }


def test_each_is_counted_somewhere():
    sources = "".join(
        file.read_text() for file in Path(cotexd.__file__).parent.rglob("*.py") if file.name != "metrics.py"
    )
    assert [name for name in DECLARED if f"metrics.{name}" not in sources] == []


def test_what_is_shown_is_what_prometheus_reads():
    shown = {each.name: each for each in text_string_to_metric_families(metrics.exposition().decode())}
    assert shown.keys() == FAMILIES.keys()
    assert {name: each.type for name, each in shown.items()} == {
        name: each.type for name, each in FAMILIES.items()
    }


def test_nothing_is_shown_twice():
    assert b"_created" not in metrics.exposition()


async def test_a_server_shows_its_own_work(server: Server):
    ada = server.user("ada")
    repo = server.track(ada)

    def value(name: str, **labels: str) -> float:
        return metrics.REGISTRY.get_sample_value(name, labels) or 0.0

    before = {
        "accepted": value("cotexd_deliveries_total", answer="accepted"),
        "duplicate": value("cotexd_deliveries_total", answer="duplicate"),
        "sizes": value("cotexd_delivery_bytes_count"),
        "commits": value("cotexd_commit_seconds_count"),
        "refused": value("cotexd_tokens_refused_total"),
    }
    await server.github.deliver(repo, guid="g")
    await server.github.deliver(repo, guid="g")
    await server.get("/api/me", headers={"authorization": "Bearer x"})
    assert value("cotexd_deliveries_total", answer="accepted") == before["accepted"] + 1
    assert value("cotexd_deliveries_total", answer="duplicate") == before["duplicate"] + 1
    assert value("cotexd_delivery_bytes_count") == before["sizes"] + 2
    assert value("cotexd_commit_seconds_count") > before["commits"]
    assert value("cotexd_tokens_refused_total") == before["refused"] + 1
    assert value("cotexd_build_info", version=cotexd.__version__) == 1
