"""The plain manifests and the examples: valid, consistent, and in step with the chart."""

import json
import re

import pytest
from deploylib import render
from deploylib.manifests import SIDECAR_VERSIONS, VERSIONS, environment, problems, proxies
from deploylib.render import REPOSITORY, helm, one

#: What a bound ObjectBucketClaim leaves beside itself.
BOUND_CLAIM = [
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "photos"},
        "data": {
            "BUCKET_HOST": "s3-us-west-1.amazonaws.com",
            "BUCKET_NAME": "photos-1",
            "BUCKET_PORT": "443",
            "BUCKET_REGION": "us-west-1",
            "BUCKET_SSL": "true",
            "BUCKET_SUBREGION": "",
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "photos"},
        "stringData": {"AWS_ACCESS_KEY_ID": "claim-id", "AWS_SECRET_ACCESS_KEY": "claim-secret"},
    },
]

#: Name: (documents, Kubernetes versions, what is made elsewhere).
SETS = {
    "k8s": (lambda: render.kustomize("k8s"), VERSIONS, ()),
    "pod-identity": (lambda: render.kustomize("examples/pod-identity"), VERSIONS, ()),
    "pod-identity demo": (
        lambda: render.plain(*sorted((REPOSITORY / "examples/pod-identity/demo").glob("*.yaml"))),
        VERSIONS,
        (),
    ),
    "irsa-oidc": (lambda: render.kustomize("examples/irsa-oidc"), VERSIONS, ()),
    "irsa-oidc on EKS": (
        lambda: helm(render.plain("examples/irsa-oidc/values-eks.yaml")[0], base={}),
        VERSIONS,
        ("s3-mirror-keys",),
    ),
    "rds-operator": (lambda: render.plain("examples/rds-operator/database.yaml"), VERSIONS, ()),
    "rds-operator chart": (
        lambda: helm(render.plain("examples/rds-operator/values.yaml")[0], base={}),
        VERSIONS,
        ("s3-mirror-keys", "inventory.rds.master"),
    ),
    "object-bucket-claim": (
        lambda: render.plain(
            "examples/object-bucket-claim/claim.yaml", "examples/object-bucket-claim/app.yaml"
        ) + BOUND_CLAIM,
        SIDECAR_VERSIONS,
        (),
    ),
    "csi-s3": (lambda: render.plain("examples/csi-s3/csi-s3.yaml"), VERSIONS, ()),
    "coredns-wildcard": (lambda: render.plain("examples/coredns-wildcard.yaml"), VERSIONS, ()),
    "sidecar-deployment": (
        lambda: render.plain("examples/sidecar-deployment.yaml"), SIDECAR_VERSIONS, (),
    ),
    "sidecar-simple": (lambda: render.plain("examples/sidecar-simple.yaml"), SIDECAR_VERSIONS, ()),
}


@pytest.mark.parametrize("name", SETS)
def test_the_documents_are_valid_and_hang_together(name):
    load, versions, external = SETS[name]
    docs = load()
    assert docs
    assert problems(docs, versions, external) == []


def test_no_manifest_is_left_out():
    """Every YAML file below k8s and examples is in a set above, or is no manifest."""
    known = {
        "examples/csi-s3/csi-s3.yaml", "examples/coredns-wildcard.yaml",
        "examples/sidecar-deployment.yaml", "examples/sidecar-simple.yaml",
        "examples/docker-compose-sidecar.yml",
    }
    folders = ("k8s/", *(f"examples/{name}/" for name in (
        "pod-identity", "irsa-oidc", "rds-operator", "object-bucket-claim")))
    for folder in ("k8s", "examples"):
        for path in (REPOSITORY / folder).rglob("*.y*ml"):
            name = path.relative_to(REPOSITORY).as_posix()
            assert name in known or name.startswith(folders), f"{name} is not checked"


def test_kubectl_apply_on_the_folder_takes_the_same_as_kustomize():
    files = render.kubectl_apply_reads("k8s")
    docs = render.plain(*files)
    assert docs[0]["kind"] == "Namespace", "the namespace must come first"

    def names(documents):
        return sorted((doc["kind"], doc["metadata"]["name"]) for doc in documents)

    assert names(docs) == names(render.kustomize("k8s"))
    assert all(doc["metadata"].get("namespace", "s3-mirror") == "s3-mirror" for doc in docs)


def test_the_plain_manifests_are_what_the_chart_renders():
    """Same pod, same services, same policy; only labels that belong to helm differ."""
    chart, plain = helm(), render.kustomize("k8s")
    pods = []
    for docs in (chart, plain):
        template = one(docs, "StatefulSet")["spec"]
        text = json.dumps([template["template"]["spec"], template.get("podManagementPolicy")], sort_keys=True)
        pods.append(text.replace(', "app.kubernetes.io/instance": "s3-mirror"', "")
                    .replace('"app.kubernetes.io/instance": "s3-mirror", ', ""))
    assert pods[0] == pods[1]
    for kind in ("NetworkPolicy", "PodDisruptionBudget"):
        for key in ("ingress", "maxUnavailable"):
            assert one(chart, kind)["spec"].get(key) == one(plain, kind)["spec"].get(key)
    for service in ("s3-proxy", "s3-mirror-admin"):
        assert one(chart, "Service", service)["spec"]["ports"] == one(plain, "Service", service)["spec"]["ports"]


@pytest.mark.parametrize("name", ["pod-identity", "irsa-oidc"])
def test_nothing_is_stored_for_main_where_a_role_gives_the_keys(name):
    docs = render.kustomize(f"examples/{name}")
    for _, container in proxies(docs):
        variables = environment(container, docs)
        assert "MAIN_ACCESS_KEY" not in variables and "MAIN_SECRET_KEY" not in variables
        assert variables["MIRROR_ACCESS_KEY"] == "change-me"


def test_the_bucket_claim_is_mapped_onto_the_proxy():
    docs = SETS["object-bucket-claim"][0]()
    [(_, container)] = proxies(docs)
    variables = environment(container, docs)
    assert variables["MAIN_S3_ENDPOINT"] == "https://s3-us-west-1.amazonaws.com:443"
    assert variables["MAIN_REGION"] == "us-west-1"
    assert (variables["MAIN_ACCESS_KEY"], variables["MAIN_SECRET_KEY"]) == ("claim-id", "claim-secret")


def test_the_wildcard_rule_leads_every_bucket_to_the_service():
    [config] = render.plain("examples/coredns-wildcard.yaml")
    words = config["data"]["s3-mirror.override"].split()
    assert words[:4] == ["rewrite", "stop", "name", "regex"] and words[6:] == ["answer", "auto"]
    assert words[5] == "s3-proxy.s3-mirror.svc.cluster.local"
    for bucket in ("my-bucket", "my.dotted.bucket"):
        assert re.match(words[4], f"{bucket}.{words[5]}.")
    assert not re.match(words[4], f"{words[5]}.")


def test_iam_documents_are_json():
    for path in (REPOSITORY / "examples").rglob("*.json"):
        assert json.loads(path.read_text())["Version"] == "2012-10-17"


def test_every_example_is_in_the_index_and_says_who_needs_it():
    index = (REPOSITORY / "examples/README.md").read_text()
    for path in (REPOSITORY / "examples").iterdir():
        if path.name == "README.md":
            continue
        assert f"]({path.name})" in index, f"{path.name} is not in the index"
        text = (path / "README.md" if path.is_dir() else path).read_text()
        assert re.search(r"\bFor (\w+ )*(teams?|applications?|developers)\b|\bFor an? ", text), path
