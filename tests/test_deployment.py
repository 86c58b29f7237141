"""What lies in config/ is true of this server: its metrics, its options, its addresses."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cotexd import config, metrics
from cotexd.web.routes import ROUTES

FOLDER = Path(__file__).parents[1] / "config"
ROW = re.compile(r"\b(cotexd_[a-z0-9_]+)(?:\{([^}]*)\})?")
SUFFIXES = ("_bucket", "_sum", "_count")


def labels_by_name() -> dict[str, set[str]]:
    """The labels of each metric that the server has."""
    found = {}
    for collector in metrics.REGISTRY._collector_to_names:
        for family in collector.describe() if hasattr(collector, "describe") else ():
            name = family.name + ("_total" if family.type == "counter" else "")
            found[name] = set(getattr(collector, "_labelnames", ()))
    return found


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return group["rules"]


def expressions() -> list[str]:
    dashboard = json.loads((FOLDER / "grafana.json").read_text())
    drawn = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return drawn + [rule["expr"] for rule in rules()]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_that_is_drawn_or_alerted_on_is_one_of_the_servers(expression: str):
    known = labels_by_name()
    named = ROW.findall(expression)
    assert named or expression.startswith("up{")
    for name, selected in named:
        whole = next(each for each in (name, *map(name.removesuffix, SUFFIXES)) if each in known)
        assert set(re.findall(r"(\w+)\s*[=!]~?\"", selected)) <= known[whole]
    for label in re.findall(r"by \(([^)]*)\)", expression):
        assert set(re.findall(r"\w+", label)) <= {"le"}.union(*(known[each] for each in known))


def test_every_alert_says_what_it_means_and_what_to_do():
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "warn"}
        assert rule["annotations"].keys() == {"summary", "do"}


def test_the_panels_of_the_dashboard_do_not_lie_on_one_another():
    places = [panel["gridPos"] for panel in json.loads((FOLDER / "grafana.json").read_text())["panels"]]
    covered = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(covered)) == len(covered)
    assert max(x for x, _ in covered) < 24


def test_cloud_run_gives_options_that_there_are_and_asks_addresses_that_there_are():
    service = yaml.safe_load((FOLDER / "cloudrun.yaml").read_text())
    (container,) = service["spec"]["template"]["spec"]["containers"]
    options = {config.variable_of(option) for option in config.declared()} | {"COTEX_DATA_DIR", "COTEX_KEY"}
    assert {each["name"] for each in container["env"]} <= options
    paths = {route.path for route in ROUTES}
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in paths
    drain = next(each["value"] for each in container["env"] if each["name"] == "COTEX_DRAIN_SECONDS")
    assert int(drain) < 10


def test_cloud_build_tests_before_it_pushes_and_deploys():
    steps = {step["id"]: step for step in yaml.safe_load((FOLDER / "cloudbuild.yaml").read_text())["steps"]}
    assert ".ci/run" in steps["test"]["script"]
    assert "test" in steps["push"]["waitFor"]


def test_compose_starts_the_server_when_its_database_is_there_and_gives_it_time_to_stop():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    assert services["cotexd"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert services["cotexd"]["read_only"]
    assert services["cotexd"]["stop_grace_period"] == "15s"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="NO SYSTEMD: its unit is not looked at.")
def test_the_unit_is_one_and_opens_little():
    unit = FOLDER / "cotexd.service"
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    assert complaints == []
    scored = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert scored.returncode == 0, scored.stdout.splitlines()[-1:]
