"""Alerts and dashboard: queries that parse, panels that do not overlap."""

import json
import re
import subprocess

import promql_parser
from deploylib.render import CHART, REPOSITORY, plain

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


def promtool(*arguments):
    done = subprocess.run(
        ["promtool", *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_when_it_should_and_not_before():
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", "tests/deploy/alerts_test.yaml")
    known = {rule["alert"] for group in plain(ALERTS)[0]["groups"] for rule in group["rules"]}
    cases = [case for test in plain("tests/deploy/alerts_test.yaml")[0]["tests"] for case in test["alert_rule_test"]]
    for fires in (True, False):
        seen = {case["alertname"] for case in cases if bool(case["exp_alerts"]) == fires}
        assert seen == known, f"{'firing' if fires else 'silent'}: {sorted(known - seen)}"


def test_the_dashboard_fits_its_grid():
    cells = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells, f"{panel['title']} covers another panel"
        cells |= own
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
