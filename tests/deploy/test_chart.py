"""The chart: what it renders for the values people give it, and what it refuses."""

import json
import re

import pytest
import yaml
from deploylib import render
from deploylib.manifests import environment, problems, proxies
from deploylib.render import CHART, REPOSITORY, Refused, helm, helm_text, one

EVERYTHING = {
    "s3": {"proxyDomain": "s3.example.com", "mirrorBucketPrefix": "copy-"},
    "replicaCount": 3,
    "autoscaling": {"enabled": True},
    "ingress": {
        "enabled": True,
        "className": "internal",
        "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "0"},
        "hosts": ["s3.example.com", "*.s3.example.com"],
        "tls": [{"secretName": "s3-tls", "hosts": ["s3.example.com", "*.s3.example.com"]}],
    },
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "grafanaDashboard": {"enabled": True},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"}},
    "networkPolicy": {"extraFrom": [{"ipBlock": {"cidr": "10.0.0.0/16"}}]},
    "settings": {"JOURNAL_SYNC": "normal", "TEE_SPOOL_BYTES": 10737418240, "JOURNAL_REQUIRED": True},
    "extraEnv": [{"name": "AWS_REGION", "value": "eu-central-1"}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "corporate-ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/corporate-ca", "readOnly": True}],
    "imagePullSecrets": [{"name": "registry"}],
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "podAnnotations": {"example.com/team": "storage"},
    "podLabels": {"team": "storage"},
}
SEPARATE_SECRETS = {
    "s3": {"mirrorEndpoint": "https://m.example.com", "existingSecret": "my-keys"},
    "postgresql": {
        "host": "db.example.com",
        "existingSecret": "my-db",
        "secretKeys": {"username": "user", "password": "pass"},
    },
}
GUARDED = {
    "tls": {"existingSecret": "my-certificate"},
    "admin": {"existingSecret": "my-admin", "secretKey": "bearer"},
    "clients": {"existingSecret": "my-clients"},
}
VARIANTS = {
    "the README's values": ({}, None),
    "everything on": (EVERYTHING, None),
    "nothing but a mirror": ({"s3": {"mirrorEndpoint": "http://m:9000"}}, {}),
    "keys in Secrets of the user's": (SEPARATE_SECRETS, {}),
    "mirror only": ({"database": {"enabled": False}, "replicaCount": 2}, None),
    "TLS, an admin token and verified clients": (GUARDED, None),
    "emptyDir": ({"persistence": {"enabled": False}}, None),
    "everything that can be off": (
        {
            "networkPolicy": {"enabled": False},
            "podDisruptionBudget": {"enabled": False},
            "topologySpread": {"enabled": False},
            "serviceAccount": {"create": False},
        },
        None,
    ),
}


#: Secrets and ConfigMaps that the user makes.
ELSEWHERE = {"my-keys", "my-db", "corporate-ca", "my-certificate", "my-admin", "my-clients"}


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_rendered_is_valid_and_hangs_together(name):
    over, base = VARIANTS[name]
    docs = helm(over, base=render.VALUES if base is None else base)
    assert problems(docs, external=ELSEWHERE) == []


def test_helm_lints_without_a_warning():
    report = render.run("helm", "lint", "--strict", CHART, "--set", "s3.mirrorEndpoint=http://m")
    assert "[WARNING]" not in report and "[ERROR]" not in report, report


@pytest.mark.parametrize("readme", ["README.md", "charts/s3-mirror/README.md"])
def test_the_values_in_the_readme_install_it(readme):
    text = (REPOSITORY / readme).read_text()
    values = yaml.safe_load(re.search(r"```yaml\n([^`]*\bs3:\n.*?)```", text, re.DOTALL)[1])
    docs = helm(values, base={})
    assert problems(docs) == []
    notes = render.helm_notes(values)
    assert "http://s3-proxy.s3-mirror.svc.cluster.local" in notes
    assert "kubectl label namespace <namespace> s3-mirror/access=true" in notes


def test_the_notes_warn_of_what_was_switched_off():
    notes = render.helm_notes(
        render.merged(render.VALUES, {
            "networkPolicy": {"enabled": False},
            "persistence": {"enabled": False},
            "ingress": {"enabled": True, "hosts": ["s3.example.com"]},
        })
    )
    assert notes.count("WARNING") == 3
    assert "WARNING" not in render.helm_notes(render.VALUES)


def test_with_a_certificate_the_service_is_https_on_443():
    docs = helm({**GUARDED, "ingress": EVERYTHING["ingress"]})
    service = one(docs, "Service", "s3-proxy")
    assert service["spec"]["ports"] == [{"name": "https", "port": 443, "targetPort": "s3"}]
    for rule in one(docs, "Ingress")["spec"]["rules"]:
        [path] = rule["http"]["paths"]
        assert path["backend"]["service"] == {"name": "s3-proxy", "port": {"name": "https"}}
    notes = render.helm_notes(render.merged(render.VALUES, GUARDED))
    assert "  https://s3-proxy.s3-mirror.svc.cluster.local\n" in notes and "my-clients" in notes
    odd = render.merged(render.VALUES, {"tls": GUARDED["tls"], "service": {"port": 8443}})
    assert "  https://s3-proxy.s3-mirror.svc.cluster.local:8443\n" in render.helm_notes(odd)


def test_files_of_secrets_are_where_the_proxy_looks_and_stay_in_step_with_them():
    docs = helm(GUARDED)
    [(pod, container)] = proxies(docs)
    variables = environment(container, docs)
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume["secret"] for volume in pod["spec"]["volumes"]}
    for variable, name, secret, file, key in (
        ("TLS_CERT_FILE", "tls", "my-certificate", "tls.crt", "tls.crt"),
        ("TLS_KEY_FILE", "tls", "my-certificate", "tls.key", "tls.key"),
        ("ADMIN_TOKEN_FILE", "admin", "my-admin", "token", "bearer"),
        ("CLIENT_CREDENTIALS_FILE", "clients", "my-clients", "clients.json", "clients.json"),
    ):
        assert variables[variable] == f"{mounts[name]['mountPath']}/{file}"
        # A file that is mounted by itself would never change.
        assert mounts[name]["readOnly"] and "subPath" not in mounts[name]
        assert volumes[name]["secretName"] == secret
        # For the group of the pod, and nobody else.
        assert volumes[name]["defaultMode"] == 0o440
        items = {item["path"]: item["key"] for item in volumes[name].get("items", [])}
        assert items.get(file, file) == key
    assert "ADMIN_TOKEN" not in variables


def test_a_token_in_the_values_is_in_the_secret_and_nowhere_else():
    token = "0123456789abcdef-token"
    docs = helm({"admin": {"token": token}})
    assert one(docs, "Secret")["stringData"]["ADMIN_TOKEN"] == token
    assert token not in str([doc for doc in docs if doc["kind"] != "Secret"])
    assert "ADMIN_TOKEN" not in str(helm())


def test_the_pod_may_do_nothing_but_serve():
    """What the `restricted` level of pod security demands, and a file system that stays as it is."""
    [(pod, container)] = proxies(helm())
    assert pod["spec"]["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert pod["spec"]["automountServiceAccountToken"] is False
    [test] = [doc for doc in helm() if doc["kind"] == "Pod"]
    assert test["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_what_a_person_may_set_reaches_the_object_it_is_for():
    docs = helm(EVERYTHING)
    account = one(docs, "ServiceAccount")
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"}
    pod = one(docs, "StatefulSet")["spec"]["template"]
    assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert pod["metadata"]["annotations"]["example.com/team"] == "storage"
    assert pod["metadata"]["labels"]["team"] == "storage"
    for name in ("tolerations", "nodeSelector", "affinity", "imagePullSecrets"):
        assert pod["spec"][name] == EVERYTHING[name]
    assert pod["spec"]["priorityClassName"] == "high"
    [spread] = pod["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ingress = one(docs, "Ingress")
    assert ingress["metadata"]["annotations"] == EVERYTHING["ingress"]["annotations"]
    assert ingress["spec"]["ingressClassName"] == "internal"
    assert ingress["spec"]["tls"] == EVERYTHING["ingress"]["tls"]
    [container] = pod["spec"]["containers"]
    assert {"name": "ca", "mountPath": "/etc/corporate-ca", "readOnly": True} in container["volumeMounts"]
    assert container["resources"]["limits"]["memory"]
    image = helm({"image": {"repository": "registry.local/s3-mirror", "tag": "9.9.9", "pullPolicy": "Always"}})
    [container] = one(image, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["imagePullPolicy"]) == ("registry.local/s3-mirror:9.9.9", "Always")


def test_replicas_are_never_all_evicted_at_once_and_scale_between_their_bounds():
    docs = helm({**EVERYTHING, "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 9}})
    budget = one(docs, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    labels = one(docs, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    scaler = one(docs, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"] == {
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "name": one(docs, "StatefulSet")["metadata"]["name"],
    }  # fmt: skip
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 9)
    assert scaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 70


def test_monitoring_is_off_until_it_is_asked_for_and_then_finds_the_admin_port():
    kinds = {doc["kind"] for doc in helm()}
    assert not kinds & {"ServiceMonitor", "PrometheusRule"}
    docs = helm({
        "serviceMonitor": {"enabled": True, "interval": "10s", "labels": {"release": "prom"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prom"}},
        "grafanaDashboard": {"enabled": True},
    })  # fmt: skip
    monitor = one(docs, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prom"
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint == {"port": "admin", "path": "/metrics", "interval": "10s"}
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    found = [doc for doc in docs if doc["kind"] == "Service" and wanted <= doc["metadata"]["labels"].items()]
    assert [service["metadata"]["name"] for service in found] == ["s3-mirror-admin"]
    assert found[0]["spec"]["ports"] == [{"name": "admin", "port": 9090, "targetPort": "admin"}]
    rule = one(docs, "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "prom"
    assert rule["spec"] == yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    dashboard = one(docs, "ConfigMap", "s3-mirror-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    # A template would have eaten Grafana's own braces.
    shown = json.loads(dashboard["data"]["s3-mirror.json"])
    assert shown == json.loads((CHART / "files/dashboard.json").read_text())


def test_the_network_policy_names_the_proxys_pods():
    docs = helm(EVERYTHING)
    policy = one(docs, "NetworkPolicy")["spec"]
    labels = one(docs, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert {"ipBlock": {"cidr": "10.0.0.0/16"}} in policy["ingress"][0]["from"]
    assert policy["ingress"][1]["from"][1] == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    }


def test_applications_reach_the_proxy_under_the_name_they_know():
    docs = helm()
    service = one(docs, "Service", "s3-proxy")
    assert service["metadata"]["namespace"] == "s3-mirror"
    assert service["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "s3"}]
    [(_, container)] = proxies(docs)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"s3": 8080, "admin": 9090}
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "admin"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}


def test_the_journal_is_on_a_claim_of_its_own_by_default():
    spec = one(helm(), "StatefulSet")["spec"]
    [claim] = spec["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "10Gi"
    assert "persistentVolumeClaimRetentionPolicy" not in spec, "the default keeps the claims"


def test_secrets_are_in_the_secret_and_nowhere_else():
    text = helm_text(render.VALUES)
    for doc in render.documents(text):
        if doc["kind"] == "Secret":
            continue
        for secret in ("main-secret", "mirror-secret", "pg-secret"):
            assert secret not in str(doc), f"{secret} in {doc['kind']}"
    assert one(helm(), "Secret")["stringData"] == {
        "MAIN_ACCESS_KEY": "main-access",
        "MAIN_SECRET_KEY": "main-secret",
        "MIRROR_ACCESS_KEY": "mirror-access",
        "MIRROR_SECRET_KEY": "mirror-secret",
        "POSTGRES_URL": "postgres://user:pg-secret@postgres:5432/s3_mirror",
    }


def test_secrets_of_the_user_are_used_and_none_is_made():
    docs = helm(SEPARATE_SECRETS, base={})
    assert not [doc for doc in docs if doc["kind"] == "Secret"]
    [(_, container)] = proxies(docs)
    assert {"secretRef": {"name": "my-keys"}} in container["envFrom"]
    sources = {variable["name"]: variable["valueFrom"]["secretKeyRef"] for variable in container["env"]}
    assert sources == {
        "POSTGRES_USER": {"name": "my-db", "key": "user"},
        "POSTGRES_PASSWORD": {"name": "my-db", "key": "pass"},
    }


@pytest.mark.parametrize(
    "over", [{"s3": {"mainSecretKey": "other"}}, {"logLevel": "debug"}], ids=["key", "setting"]
)
def test_a_change_restarts_the_pods(over):
    def annotations(docs):
        return one(docs, "StatefulSet")["spec"]["template"]["metadata"]["annotations"]

    assert annotations(helm(over)) != annotations(helm())
    assert annotations(helm()) == annotations(helm())


def test_the_grace_period_follows_the_drain_time():
    spec = one(helm({"drainTimeoutSeconds": 300}), "StatefulSet")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 320


def test_settings_and_extra_variables_reach_the_proxy_as_text():
    docs = helm(EVERYTHING)
    [(_, container)] = proxies(docs)
    variables = environment(container, docs)
    assert variables["TEE_SPOOL_BYTES"] == "10737418240"
    assert variables["JOURNAL_REQUIRED"] == "true"
    assert variables["AWS_REGION"] == "eu-central-1"
    assert variables["PROXY_DOMAIN"] == "s3.example.com"


def test_a_share_stays_a_share():
    settings = {"OTEL_TRACES_SAMPLER_ARG": 0.25, "MIRROR_CONCURRENCY": 16.0}
    config = one(helm({"settings": settings}), "ConfigMap")["data"]
    assert (config["OTEL_TRACES_SAMPLER_ARG"], config["MIRROR_CONCURRENCY"]) == ("0.25", "16")


@pytest.mark.parametrize(
    "settings", [{"POSTGRES_IAM": True}, {"POSTGRES_PASSWORD_FILE": "/run/password"}]
)
def test_a_host_needs_no_password_where_the_proxy_gets_one_otherwise(settings):
    for more in ({}, {"existingSecret": "db", "secretKeys": {"password": ""}}):
        values = {"postgresql": {"host": "db", "sslmode": "require", **more}, "settings": settings}
        docs = helm(values, base={"s3": {"mirrorEndpoint": "http://mirror:9000"}})
        [(_, container)] = proxies(docs)
        names = [variable["name"] for variable in container.get("env", [])]
        assert "POSTGRES_PASSWORD" not in names
        assert environment(container, docs)["POSTGRES_HOST"] == "db"


def test_the_autoscaler_removes_replicas_only_when_that_is_wished():
    scaler = {"enabled": True}
    down = lambda: one(helm({"autoscaling": scaler, "database": {"enabled": False}}), "HorizontalPodAutoscaler")["spec"]["behavior"]["scaleDown"]  # noqa: E731, E501
    assert down()["selectPolicy"] == "Disabled"
    scaler["scaleDown"] = True
    assert "selectPolicy" not in down()


def test_the_autoscaler_alone_decides_on_replicas():
    assert "replicas" not in one(helm(EVERYTHING), "StatefulSet")["spec"]
    assert one(helm({"replicaCount": 4}), "StatefulSet")["spec"]["replicas"] == 4


def test_only_labelled_namespaces_are_admitted():
    rules = one(helm(), "NetworkPolicy")["spec"]["ingress"]
    assert [rule["ports"] for rule in rules] == [[{"port": "s3"}], [{"port": "admin"}]]
    assert rules[0]["from"] == [
        {"podSelector": {}},
        {"namespaceSelector": {"matchLabels": {"s3-mirror/access": "true"}}},
    ]


def test_the_ingress_takes_every_bucket_as_a_host():
    ingress = one(helm(EVERYTHING), "Ingress")
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == ["s3.example.com", "*.s3.example.com"]


def test_two_replicas_are_fine_when_the_database_is_named_by_a_variable():
    url = {"name": "POSTGRES_URL", "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}}
    values = {"s3": {"mirrorEndpoint": "http://m"}, "replicaCount": 2, "extraEnv": [url]}
    assert one(helm(values, base={}), "StatefulSet")["spec"]["replicas"] == 2


REFUSED = {
    "no mirror": ({}, "s3.mirrorEndpoint is required"),
    "half a key": (
        {"s3": {"mirrorEndpoint": "http://m", "mainAccessKey": "a"}},
        "mainAccessKey and s3.mainSecretKey go together",
    ),
    "keys twice": (
        {"s3": {"mirrorEndpoint": "http://m", "mainAccessKey": "a", "mainSecretKey": "b", "existingSecret": "c"}},
        "exclude each other",
    ),
    "a token twice": (
        {
            "s3": {"mirrorEndpoint": "http://m"},
            "admin": {"token": "0123456789abcdef", "existingSecret": "s"},
        },
        "admin.token and admin.existingSecret exclude each other",
    ),
    "a token that the proxy would refuse": (
        {"s3": {"mirrorEndpoint": "http://m"}, "admin": {"token": "short"}},
        "token",
    ),
    "a host without password": (
        {"s3": {"mirrorEndpoint": "http://m"}, "postgresql": {"host": "h"}},
        "postgresql.host needs",
    ),
    "two replicas on SQLite": (
        {"s3": {"mirrorEndpoint": "http://m"}, "replicaCount": 2},
        "more than one replica needs PostgreSQL",
    ),
    "a misspelt value": ({"s3": {"mirrorEndpiont": "http://m"}}, "mirrorEndpiont"),
    "a misspelt setting": (
        {"s3": {"mirrorEndpoint": "http://m"}, "settings": {"JORNAL_SYNC": "off"}},
        "JORNAL_SYNC",
    ),
    "an endpoint that is no URL": ({"s3": {"mirrorEndpoint": "mirror:9000"}}, "mirrorEndpoint"),
    "an unknown log level": (
        {"s3": {"mirrorEndpoint": "http://m"}, "logLevel": "verbose"},
        "logLevel",
    ),
    "an ingress without hosts": (
        {"s3": {"mirrorEndpoint": "http://m"}, "ingress": {"enabled": True}},
        "ingress.hosts",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_refused_with_a_reason(name):
    values, reason = REFUSED[name]
    with pytest.raises(Refused, match=re.escape(reason)):
        helm(values, base={})


def test_a_cluster_that_is_too_old_is_refused():
    with pytest.raises(Refused, match="incompatible with Kubernetes"):
        helm({}, "--kube-version", "1.24.0")


def test_every_value_has_its_place_in_the_schema():
    """The schema refuses unknown names, so the defaults pass only if it knows them all."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    defaults["s3"]["mirrorEndpoint"] = "http://m"
    assert helm(defaults, base={})
