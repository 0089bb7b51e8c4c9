"""One list of settings: what the files use is in .env.example, and .env.example is the code's."""

import json
import re

import kubernetes_validate
import pytest
import test_manifests
import yaml
from deploylib.manifests import SIDECAR_VERSIONS, containers, environment, is_proxy, pods
from deploylib.render import CHART, REPOSITORY, compose, helm, plain

LINE = re.compile(r"^#?([A-Z][A-Z0-9_]*)=(.*)$")
#: Read by the AWS credential chain, not by the proxy.
OTHERS = re.compile(r"^AWS_")


def example():
    """Name to default."""
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    found = [match.groups() for match in map(LINE.match, lines) if match]
    assert len({name for name, _ in found}) == len(found), "a variable is there twice"
    return dict(found)


def test_it_lists_what_the_code_reads():
    code = (REPOSITORY / "src/config/env.rs").read_text()
    fields = re.search(r"pub struct Environment \{(.*?)\n\}", code, re.DOTALL)[1]
    names = {name.upper() for name in re.findall(r"pub (\w+): Option<String>", fields)}
    assert names == set(example())


def test_copied_as_it_is_it_changes_nothing():
    text = (REPOSITORY / ".env.example").read_text()
    assert all(not line or line.startswith("#") for line in text.splitlines())


@pytest.mark.parametrize("name", test_manifests.SETS)
def test_manifests_use_no_variable_that_does_not_exist(name):
    docs = test_manifests.SETS[name][0]()
    for pod in pods(docs):
        for container in containers(pod):
            if is_proxy(container):
                check(environment(container, docs), extra={"BUCKET_HOST", "BUCKET_PORT"})


def test_the_chart_and_the_compose_files_use_no_variable_that_does_not_exist():
    import test_chart

    for over, base in test_chart.VARIANTS.values():
        docs = helm(over) if base is None else helm(over, base=base)
        for pod in pods(docs):
            check(environment(pod["spec"]["containers"][0], docs) if is_proxy(pod["spec"]["containers"][0]) else {})
    for files in (["docker-compose.yml"], ["examples/docker-compose-sidecar.yml"]):
        services = compose(*files)["services"]
        check(services["s3-proxy"]["environment"])
    # Those of the compose file that are written ${NAME}.
    text = (REPOSITORY / "docker-compose.yml").read_text()
    check(dict.fromkeys(re.findall(r"\$\{([A-Z_0-9]+)", text)))


def test_the_charts_settings_are_variables_of_the_proxy():
    check(settings())


def settings():
    """What the chart takes as a setting; tests/docs.rs holds it to be complete."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    return set(schema["properties"]["settings"]["properties"])


def test_the_charts_own_values_reach_the_proxy():
    import test_chart

    seen = set()
    parts = {"host": "h", "password": "p", "url": ""}
    keys = {"mirrorBucketPrefix": "p-", "proxyDomain": "d"}
    for over in (
        {"s3": keys},
        {"postgresql": parts, "admin": {"token": "0123456789abcdef"}},
        test_chart.GUARDED,
        {"database": {"enabled": False}},
        {"events": {"webhookUrl": "https://hooks.example", "webhookSecret": "s" * 16}},
    ):
        docs = helm(over)
        [container] = [c for pod in pods(docs) for c in containers(pod) if is_proxy(c)]
        seen |= set(environment(container, docs))
    assert seen == set(example()) - settings()


def test_the_sidecar_in_the_readme_is_a_container_that_serves():
    text = (REPOSITORY / "README.md").read_text()
    [snippet] = re.findall(r"```yaml\n(initContainers:.*?)```", text, re.DOTALL)
    [container] = yaml.safe_load(snippet)["initContainers"]
    assert is_proxy(container) and container["restartPolicy"] == "Always"
    assert container["args"] == ["serve"]
    check({variable["name"]: variable["value"] for variable in container["env"]})
    pod = {"containers": [{"name": "app", "image": "app:1"}], "initContainers": [container]}
    doc = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod}
    kubernetes_validate.validate(doc, SIDECAR_VERSIONS[-1], strict=True)


def check(variables, extra=()):
    unknown = {name for name in variables if not OTHERS.match(name)} - set(example()) - set(extra)
    assert not unknown, f"not in .env.example: {sorted(unknown)}"


def test_everything_is_of_the_same_version():
    version = re.search(r'^version = "(.+)"', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE)[1]
    chart = plain("charts/s3-mirror/Chart.yaml")[0]
    assert chart["appVersion"] == version
    for folder in ("k8s", "examples", "."):
        pattern = "*.y*ml" if folder == "." else "**/*.y*ml"
        for path in (REPOSITORY / folder).glob(pattern):
            for tag in re.findall(r"ghcr\.io/s3-mirror/s3-mirror:(\S+)", path.read_text()):
                assert tag == version, f"{path} uses version {tag}"
