"""Alerts and dashboard: queries that parse, panels that do not overlap."""

import json
import re

import promql_parser
from deploylib.render import CHART, plain

ALERTS = "charts/s3-mirror/files/alerts.yaml"
DASHBOARD = json.loads((CHART / "files/dashboard.json").read_text())


def queries():
    """Every query of the alerts and the dashboard."""
    for group in plain(ALERTS)[0]["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m")


def metric_names():
    """The metrics the queries read, a histogram by its base name."""
    names = {name for query in queries() for name in re.findall(r"s3_proxy_\w+", query)}
    return {re.sub(r"_bucket$", "", name) for name in names}


def test_every_query_is_promql():
    for query in queries():
        promql_parser.parse(query)


def test_every_alert_says_what_is_wrong_and_how_bad():
    for group in plain(ALERTS)[0]["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert {"summary", "description"} <= set(rule["annotations"])


def test_the_dashboard_fits_its_grid():
    cells = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells, f"{panel['title']} covers another panel"
        cells |= own
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
