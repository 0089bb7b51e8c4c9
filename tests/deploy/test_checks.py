"""The checks themselves: each mistake below is one they must see."""

import copy

import pytest
from deploylib import render
from deploylib.manifests import problems


def pod(docs):
    return render.one(docs, "StatefulSet")["spec"]["template"]["spec"]


def container(docs):
    return pod(docs)["containers"][0]


MISTAKES = {
    "Additional properties": lambda docs: container(docs).update(imagePullPolizy="Always"),
    "'containerPort' is a required property": lambda docs: container(docs)["ports"][0].pop("containerPort"),
    "volume data is nowhere": lambda docs: render.one(docs, "StatefulSet")["spec"].pop("volumeClaimTemplates"),
    "Secret s3-mirror is nowhere": lambda docs: docs.remove(render.one(docs, "Secret")),
    "ServiceAccount s3-mirror is nowhere": lambda docs: docs.remove(render.one(docs, "ServiceAccount")),
    "selects no pod": lambda docs: render.one(docs, "Service", "s3-proxy")["spec"]["selector"].update(x="y"),
    "target port": lambda docs: render.one(docs, "Service", "s3-proxy")["spec"]["ports"][0].update(targetPort="s4"),
    "asks port": lambda docs: container(docs)["livenessProbe"]["httpGet"].update(port="amdin"),
    "service links": lambda docs: pod(docs).pop("enableServiceLinks"),
    "killed before it has drained": lambda docs: pod(docs).update(terminationGracePeriodSeconds=30),
    "root file system": lambda docs: container(docs)["securityContext"].update(readOnlyRootFilesystem=False),
    "may run as root": lambda docs: pod(docs)["securityContext"].pop("runAsNonRoot"),
    "keeps capabilities": lambda docs: container(docs)["securityContext"].pop("capabilities"),
    "the image has no version": lambda docs: container(docs).update(image="ghcr.io/s3-mirror/s3-mirror:latest"),
    "DATA_DIR is not on a volume": lambda docs: render.one(docs, "ConfigMap")["data"].update(DATA_DIR="/tmp"),
    "is there twice": lambda docs: docs.append(copy.deepcopy(render.one(docs, "ConfigMap"))),
}


@pytest.mark.parametrize("problem", MISTAKES)
def test_a_mistake_is_seen(problem):
    docs = copy.deepcopy(render.kustomize("k8s"))
    assert problems(docs) == []
    MISTAKES[problem](docs)
    assert problem in "\n".join(problems(docs))
