"""The compose files and the manifests, run: the same commands and variables, as processes."""

import json
import re
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request

import pytest
import test_chart
import test_manifests
import test_monitoring
from deploylib import local, render
from deploylib.manifests import environment, proxies
from deploylib.render import CHART, REPOSITORY, compose, helm
from support.authority import Authority
from support.poll import until
from support.process import Process, binary, free_port

EXAMPLES = REPOSITORY / "examples/applications"


@pytest.fixture
def stack(machine, postgres):
    """docker-compose.yml; what it yields are the services' settings."""
    services = compose("docker-compose.yml")["services"]
    server = services["postgres"]["environment"]
    assert (server["POSTGRES_USER"], server["POSTGRES_PASSWORD"]) == (postgres.user, postgres.password)
    for store in ("main-s3", "mirror-s3"):
        machine.start_store(store, services[store]["command"])
    for client in ("s3-proxy", "test-client"):
        variables = services[client]["environment"]
        assert variables["POSTGRES_HOST"] == "postgres"
        # The engine gives the service a name; here it has a port instead.
        variables |= {"POSTGRES_HOST": postgres.host, "POSTGRES_PORT": str(postgres.port)}
    machine.start_proxy("s3-proxy", services["s3-proxy"]["command"], services["s3-proxy"]["environment"])
    variables = services["test-client"]["environment"]
    for name, value in variables.items():
        variables[name] = machine.translate(value, "test-client")
    return services


def test_the_compose_stack_mirrors_and_inventories(machine, stack, tmp_path):
    variables = stack["test-client"]["environment"]
    proxy, admin = machine.url("s3-proxy", 8080), machine.url("s3-proxy", 9090)

    report = local.test_client("test", "my-test-bucket", environment=variables)
    for line in ("main holds the same", "mirror holds the same", "the inventory has every key"):
        assert f"ok       {line}" in report, report
    assert "not seen" not in report and " 0 failed" in report, report

    # In the compose network the proxy is called s3-proxy, which it knows as its domain.
    styles = {"S3_ENDPOINT": proxy, "PROXY_DOMAIN": "s3-proxy"}
    assert "8 passed, 0 failed" in local.test_client("test-styles", "my-test-bucket", environment=styles)

    sample = REPOSITORY / "test-client/test-files/sample.txt"
    copy = tmp_path / "copy.txt"
    local.test_client("upload", "my-bucket", "test.txt", sample, environment=variables)
    assert "test.txt" in local.test_client("list", "my-bucket", environment=variables)
    local.test_client("download", "my-bucket", "test.txt", copy, environment=variables)
    assert copy.read_bytes() == sample.read_bytes()
    local.test_client("delete", "my-bucket", "test.txt", environment=variables)
    assert "0 objects" in local.test_client("list", "my-bucket", environment=variables)

    example = {"S3_ENDPOINT": proxy, "BUCKET": "my-bucket"}
    for language, command in {
        "Node.js": ["node", local.place_node_example(tmp_path)],
        "Python": [sys.executable, EXAMPLES / "python.py"],
        "Go": [local.build_go_example(tmp_path)],
    }.items():
        assert f"Hello from {language}" in local.run(command, example, tmp_path)

    local.wait_drained(admin)
    metrics = local.get(f"{admin}/metrics")[1]
    for name in test_monitoring.metric_names():
        # A counter of errors may show no sample yet; its type is declared all the same.
        assert re.search(rf"^(# TYPE )?{name}\b|^# TYPE {name.removesuffix('_total')}\b", metrics, re.MULTILINE), name
    assert "s3_proxy_request_duration_seconds_bucket" in metrics

    # `docker compose down`: SIGTERM, then the grace period.
    [process] = [process for process in machine.processes if process.name == "s3-proxy"]
    process.signal(signal.SIGTERM)
    assert process.wait(45) == 0


def test_every_command_of_the_test_client_works_against_dev(machine, tmp_path):
    """`s3-mirror dev`, and what its output says of itself."""
    ports = {name: free_port() for name in ("listen", "admin", "main", "mirror")}
    options = [word for name, port in ports.items() for word in (f"--{name}", f"127.0.0.1:{port}")]
    command = [binary(), "dev", "--data-dir", str(tmp_path / "dev"), *options]
    process = Process("dev", command, tmp_path / "logs", {})
    machine.processes.append(process)
    process.spawn().wait_ready(lambda: "is ready" in process.stdout(), "dev to be ready")
    url = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    keys = {"ACCESS_KEY": "dev", "SECRET_KEY": "dev-secret"}
    variables = {
        "S3_ENDPOINT": f"http://localhost:{ports['listen']}",
        "ADMIN_ENDPOINT": url["admin"],
        "MAIN_S3_ENDPOINT": url["main"],
        "MIRROR_S3_ENDPOINT": url["mirror"],
        **{f"{side}_{name}": value for side in ("MAIN", "MIRROR") for name, value in keys.items()},
    }

    def client(*arguments):
        return local.test_client(*arguments, environment=variables)

    report = client("test", "tried")
    assert "12 passed, 0 failed" in report and "not seen" not in report, report
    assert "8 passed, 0 failed" in client("test-styles", "tried")
    sample, copy = REPOSITORY / "test-client/test-files/sample.txt", tmp_path / "copy.txt"
    client("upload", "made-by-it", "a/sample.txt", sample)
    client("upload", "made-by-it", "b.txt", sample)
    assert "1 objects" in client("list", "made-by-it", "a/")
    assert "2 objects" in client("list", "made-by-it")
    client("download", "made-by-it", "a/sample.txt", copy)
    assert copy.read_bytes() == sample.read_bytes()
    client("delete", "made-by-it", "a/sample.txt")
    assert "1 objects" in client("list", "made-by-it")
    with pytest.raises(AssertionError, match="NoSuchKey"):
        client("download", "made-by-it", "a/sample.txt", copy)


def test_the_test_client_says_what_is_wrong(machine, stack):
    """A mirror that is missing an object fails the test; so does one that cannot be reached."""
    variables = {**stack["test-client"]["environment"], "TIMEOUT_SECONDS": "2"}
    elsewhere = {**variables, "MIRROR_BUCKET_PREFIX": "not-there-"}
    with pytest.raises(AssertionError, match="FAILED   mirror holds the same"):
        local.test_client("test", "my-test-bucket", environment=elsewhere)


def test_the_compose_sidecar_serves_its_application(machine):
    services = compose("examples/docker-compose-sidecar.yml")["services"]
    for store in ("main-s3", "mirror-s3"):
        machine.start_store(store, services[store]["command"])
    proxy = services["s3-proxy"]
    machine.start_proxy("s3-proxy", proxy["command"], proxy["environment"])
    app = services["app"]
    assert app["network_mode"] == "service:s3-proxy"
    # One network: localhost is the proxy's.
    variables = {
        name: machine.translate(value, "s3-proxy") for name, value in app["environment"].items()
    }
    report = local.run(app["command"], variables, REPOSITORY / "test-client")
    assert "ok       mirror holds the same" in report


STARTED = {
    "chart": helm,
    **{
        name: test_manifests.SETS[name][0]
        for name in ("k8s", "pod-identity", "irsa-oidc", "sidecar-deployment", "sidecar-simple",
                     "object-bucket-claim", "rds-operator chart", "irsa-oidc on EKS")
    },
}


@pytest.mark.parametrize("name", STARTED)
def test_a_proxy_with_the_variables_of_the_manifest_mirrors(name, machine, postgres):
    docs = STARTED[name]()
    [(_, container)] = proxies(docs)
    variables = environment(container, docs)
    keys = {}
    for side in ("MAIN", "MIRROR"):
        names = [f"{side}_ACCESS_KEY", f"{side}_SECRET_KEY"]
        if names[0] not in variables:
            # From a Secret made elsewhere; or, for main, from a role: the first link of the AWS
            # chain stands in for the others.
            chain = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
            names = chain if side == "MAIN" else names
            variables |= dict(zip(names, (f"{side}-access-key", f"{side}-secret-key")))
        keys[side] = [variables[name] for name in names]
        store = f"{side.lower()}-s3"
        machine.start_store(store, [
            "store", "--listen", "0.0.0.0:9000", "--data-dir", "/data",
            "--access-key", keys[side][0], "--secret-key", keys[side][1],
        ])
        variables[f"{side}_S3_ENDPOINT"] = machine.url(store, 9000)
    if "POSTGRES_URL" in variables:
        variables |= postgres.environment("s3_mirror")
    elif "POSTGRES_HOST" in variables:
        # TLS is the server's affair; this one has none.
        variables |= {
            "POSTGRES_HOST": postgres.host, "POSTGRES_PORT": str(postgres.port),
            "POSTGRES_USER": postgres.user, "POSTGRES_PASSWORD": postgres.password,
            "POSTGRES_SSLMODE": "disable",
        }

    machine.start_proxy("s3-proxy", container["args"], variables)
    client = local.s3(machine.url("s3-proxy", 8080))
    client.create_bucket(Bucket="my-bucket")
    client.put_object(Bucket="my-bucket", Key="key", Body=b"body")
    local.wait_drained(machine.url("s3-proxy", 9090))
    mirror = local.s3(machine.url("mirror-s3", 9000), *keys["MIRROR"])
    bucket = variables.get("MIRROR_BUCKET_PREFIX", "") + "my-bucket"
    assert mirror.get_object(Bucket=bucket, Key="key")["Body"].read() == b"body"


def start_chart(machine, over):
    """The proxy of the chart with `over`, between two stores; its documents and variables."""
    docs = helm(over)
    [(_, container)] = proxies(docs)
    variables = environment(container, docs)
    for side in ("MAIN", "MIRROR"):
        store = f"{side.lower()}-s3"
        machine.start_store(store, [
            "store", "--listen", "0.0.0.0:9000", "--data-dir", "/data",
            "--access-key", variables[f"{side}_ACCESS_KEY"],
            "--secret-key", variables[f"{side}_SECRET_KEY"],
        ])  # fmt: skip
        variables[f"{side}_S3_ENDPOINT"] = machine.url(store, 9000)
    for name, value in variables.items():
        # Where the pod's Secrets are mounted.
        variables[name] = value.replace("/etc/s3-mirror", str(machine.directory / "etc"))
    machine.start_proxy("s3-proxy", container["args"], variables)
    return docs, variables


def helm_test(machine, docs):
    """Runs what `helm test` runs in its pod; what it prints."""
    [pod] = [doc for doc in docs if doc["kind"] == "Pod"]
    [container] = pod["spec"]["containers"]
    [script] = container["args"]
    script = script.replace("s3-mirror-admin:9090", machine.addresses["s3-proxy:9090"])
    for port in ("80", "443"):
        script = script.replace(f"//s3-proxy:{port}/", f"//{machine.addresses['s3-proxy:8080']}/")
    assert "//s3-" not in script
    return local.run([*container["command"], script], {}, machine.directory)


WITHOUT_DATABASE = {"database": {"enabled": False}, "postgresql": {"url": ""}}


def test_helm_test_passes_where_the_proxy_works_and_fails_where_it_does_not(machine):
    docs, _ = start_chart(machine, WITHOUT_DATABASE)
    assert "ListAllMyBucketsResult" in helm_test(machine, docs)
    [proxy] = [process for process in machine.processes if process.name == "s3-proxy"]
    proxy.stop()
    with pytest.raises(AssertionError):
        helm_test(machine, docs)


def test_tls_the_admin_token_and_the_clients_of_the_chart_take_effect(machine):
    authority = Authority(machine.directory / "authority")
    for name in ("tls", "admin", "clients"):
        (machine.directory / "etc" / name).mkdir(parents=True)
    etc = machine.directory / "etc"
    authority.issue("s3-proxy", etc / "tls/tls.crt", etc / "tls/tls.key")
    token = "token-of-the-test-0123456789"
    (etc / "admin/token").write_text(token + "\n")
    client = {
        "access_key_id": "APPLICATION", "secret_access_key": "secret-0123456789",
        "buckets": [{"bucket": "my-bucket", "access": "read-write"}],
    }  # fmt: skip
    (etc / "clients/clients.json").write_text(json.dumps([client]))
    docs, variables = start_chart(machine, {**test_chart.GUARDED, **WITHOUT_DATABASE})

    assert "<Error>" in helm_test(machine, docs), "nobody in particular lists buckets"
    port = machine.addresses["s3-proxy:8080"].rpartition(":")[2]
    url = f"https://localhost:{port}"
    mine = local.s3(url, "APPLICATION", "secret-0123456789", verify=str(authority.file))
    keys = variables["MAIN_ACCESS_KEY"], variables["MAIN_SECRET_KEY"]
    local.s3(machine.url("main-s3", 9000), *keys).create_bucket(Bucket="my-bucket")
    mine.put_object(Bucket="my-bucket", Key="key", Body=b"body")
    stranger = local.s3(url, verify=str(authority.file))
    with pytest.raises(stranger.exceptions.ClientError, match="InvalidAccessKeyId"):
        stranger.get_object(Bucket="my-bucket", Key="key")

    def pause(bearer):
        request = urllib.request.Request(
            f"{machine.url('s3-proxy', 9090)}/api/v1/pause", b"{}", method="POST",
            headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    assert pause("token-of-nobody-0123456789") in (401, 403)
    assert pause(token) in (200, 202, 204)


NODE_UPLOAD = """
import http2 from "node:http2";
import { readFileSync } from "node:fs";
const [, , url, bucket, ca] = process.argv;
const session = http2.connect(url, { ca: readFileSync(ca) });
const body = Buffer.alloc(3 * 1024 * 1024, "node");
const exchange = (headers, body) => new Promise((resolve, reject) => {
  const stream = session.request(headers);
  const pieces = [];
  let status;
  stream.on("response", (head) => { status = head[":status"]; });
  stream.on("data", (piece) => pieces.push(piece));
  stream.on("end", () => resolve({ status, body: Buffer.concat(pieces) }));
  stream.on("error", reject);
  stream.end(body);
});
const path = (number) => `/${bucket}/node-${number}`;
const all = [...Array(20).keys()];
const puts = await Promise.all(all.map((number) => exchange(
  { ":method": "PUT", ":path": path(number), "content-length": body.length }, body)));
const gets = await Promise.all(all.map((number) => exchange({ ":path": path(number) })));
console.log(session.alpnProtocol, new Set(puts.map((answer) => answer.status)),
  gets.every((answer) => answer.body.equals(body)));
session.close();
"""


def test_clients_of_other_languages_speak_http_2_to_a_proxy_with_tls(machine, tmp_path):
    authority = Authority(machine.directory / "authority")
    (machine.directory / "etc/tls").mkdir(parents=True)
    certificate = [machine.directory / f"etc/tls/tls.{kind}" for kind in ("crt", "key")]
    authority.issue("s3-proxy", *certificate)
    tls = {"tls": test_chart.GUARDED["tls"]}
    _, variables = start_chart(machine, {**tls, **WITHOUT_DATABASE})
    keys = variables["MAIN_ACCESS_KEY"], variables["MAIN_SECRET_KEY"]
    main = local.s3(machine.url("main-s3", 9000), *keys)
    main.create_bucket(Bucket="my-bucket")
    url = f"https://localhost:{machine.addresses['s3-proxy:8080'].rpartition(':')[2]}"

    upload = local.build_go(tmp_path, "./http2-upload")
    told = local.run([upload, url, "my-bucket"], {"SSL_CERT_FILE": str(authority.file)}, tmp_path)
    assert told.splitlines() == ["PUT HTTP/2.0 200", "GET HTTP/2.0 200"] * 3 + ["told to go on: 3"]

    script = tmp_path / "upload.mjs"
    script.write_text(NODE_UPLOAD)
    told = local.run(["node", script, url, "my-bucket", authority.file], {}, tmp_path)
    assert told.strip() == "h2 Set(1) { 200 } true"

    local.wait_drained(machine.url("s3-proxy", 9090))
    mirror = local.s3(machine.url("mirror-s3", 9000), variables["MIRROR_ACCESS_KEY"], variables["MIRROR_SECRET_KEY"])
    sizes = {each["Key"]: each["Size"] for each in mirror.list_objects_v2(Bucket="my-bucket")["Contents"]}
    assert len(sizes) == 23 and set(sizes.values()) == {3 << 20}


def test_prometheus_of_the_compose_overlay_answers_what_the_board_asks(machine, tmp_path):
    """The overlay's own configuration and rules; of it only the address and the interval differ."""
    start_chart(machine, WITHOUT_DATABASE)
    overlay = compose("docker-compose.yml", "docker-compose.monitoring.yml")
    text = overlay["configs"]["prometheus"]["content"]
    for here, there in (
        ("s3-proxy:9090", machine.addresses["s3-proxy:9090"]),
        ("scrape_interval: 5s", "scrape_interval: 500ms\n  evaluation_interval: 500ms"),
        ("/etc/prometheus/alerts.yaml", str(CHART / "files/alerts.yaml")),
    ):
        assert here in text, text
        text = text.replace(here, there)
    config = tmp_path / "prometheus.yml"
    config.write_text(text)
    port = free_port()
    process = Process("prometheus", [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ], tmp_path / "prometheus-logs", {})  # fmt: skip
    machine.processes.append(process)
    url = f"http://127.0.0.1:{port}"
    process.spawn().wait_ready(lambda: local.get(f"{url}/-/ready")[0] == 200, "Prometheus", 60)

    client = local.s3(machine.url("s3-proxy", 8080))
    client.create_bucket(Bucket="my-bucket")

    def ask(query):
        status, text = local.get(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        assert status == 200, f"{query}: {text}"
        return json.loads(text)["data"]["result"]

    def requests_seen():
        client.put_object(Bucket="my-bucket", Key="key", Body=b"body")
        return any(float(series["value"][1]) > 0 for series in ask("rate(s3_proxy_requests_total[1m])"))

    until(requests_seen, "the requests to be scraped", 60)
    for query in test_monitoring.queries():
        result = ask(query)
        # Errors and alerts have nothing to show while all is well; figures always have.
        if "errors" not in query and query.startswith(("max(", "sum(", "sum by", "histogram")):
            assert result, f"the board would be empty: {query}"
    status, text = local.get(f"{url}/api/v1/rules")
    rules = [rule for group in json.loads(text)["data"]["groups"] for rule in group["rules"]]
    assert rules and all(rule["health"] in ("ok", "unknown") for rule in rules), rules
    firing = [rule["name"] for rule in rules if rule.get("state") == "firing"]
    assert firing == [], firing
