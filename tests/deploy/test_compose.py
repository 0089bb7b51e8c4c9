"""The compose files: loaded by the loader of `docker compose`, defaults and .env alike."""

import json

import pytest
import yaml
from deploylib.render import CHART, compose

MAIN = "docker-compose.yml"
FILES = {
    "alone": [MAIN],
    "with monitoring": [MAIN, "docker-compose.monitoring.yml"],
    "sidecar": ["examples/docker-compose-sidecar.yml"],
}


@pytest.mark.parametrize("name", FILES)
def test_it_loads_and_keeps_to_this_machine(name):
    model = compose(*FILES[name])
    assert model["services"]
    for service, settings in model["services"].items():
        assert "build" in settings or not settings["image"].endswith(":latest"), service
        for port in settings.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", f"{service} is open to the network"
        if settings.get("image", "").startswith("ghcr.io/s3-mirror/"):
            assert settings["read_only"] and settings["cap_drop"] == ["ALL"], service
            assert [volume["target"] for volume in settings["volumes"]] == ["/data"], service


def test_it_is_postgres_17_two_stores_the_proxy_and_the_test_client():
    services = compose(MAIN)["services"]
    assert set(services) == {"postgres", "main-s3", "mirror-s3", "s3-proxy", "test-client"}
    assert services["postgres"]["image"].startswith("postgres:17")
    assert services["s3-proxy"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_what_env_says_wins_and_reaches_the_proxy():
    own = {
        "MAIN_S3_ENDPOINT": "https://s3.example.com",
        "MAIN_ACCESS_KEY": "mine",
        # Not named in the compose file.
        "FENCE": "overlap",
        # Only right outside a container.
        "DATA_DIR": "./data",
    }
    services = compose(MAIN, environment=own)["services"]
    for service in ("s3-proxy", "test-client"):
        assert services[service]["environment"]["MAIN_S3_ENDPOINT"] == "https://s3.example.com"
        assert services[service]["environment"]["MAIN_ACCESS_KEY"] == "mine"
    assert services["s3-proxy"]["environment"]["FENCE"] == "overlap"
    assert services["s3-proxy"]["environment"]["DATA_DIR"] == "/data"


def test_monitoring_loads_the_files_of_the_chart():
    services = compose(*FILES["with monitoring"])["services"]
    mounted = {v["source"].rpartition("charts/")[2] for s in ("prometheus", "grafana")
               for v in services[s]["volumes"] if v["type"] == "bind"}
    assert mounted == {"s3-mirror/files/alerts.yaml", "s3-mirror/files/dashboard.json"}


def test_grafana_finds_the_board_and_prometheus_without_a_hand():
    model = compose(*FILES["with monitoring"])
    grafana = model["services"]["grafana"]
    places = {config["source"]: config["target"] for config in grafana["configs"]}
    assert places["grafana-datasource"].startswith("/etc/grafana/provisioning/datasources/")
    assert places["grafana-dashboards"].startswith("/etc/grafana/provisioning/dashboards/")

    def content(name):
        return yaml.safe_load(model["configs"][name]["content"])

    [source] = content("grafana-datasource")["datasources"]
    assert source["type"] == "prometheus" and source["isDefault"]
    assert source["url"] == "http://prometheus:9090", "the name and port inside the network"
    assert model["services"]["prometheus"]["ports"][0]["target"] == 9090
    [provider] = content("grafana-dashboards")["providers"]
    [board] = [v for v in grafana["volumes"] if v["target"].endswith(".json")]
    assert board["target"].startswith(provider["options"]["path"] + "/")
    # The board asks for a data source of the kind that there is.
    shown = json.loads((CHART / "files/dashboard.json").read_text())
    [variable] = shown["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    assert {panel["datasource"]["uid"] for panel in shown["panels"]} == {"${datasource}"}
