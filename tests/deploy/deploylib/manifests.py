"""What is wrong with a set of Kubernetes documents: against the schemas, and among themselves.

The API server checks more than its schemas say. The rules here are those of its refusals, or of
pods that never start, that manifests like ours can run into; and our own: restricted pods, no
service links, time enough to drain.
"""

import json
from pathlib import Path

import jsonschema
import kubernetes_validate

#: The oldest release the chart admits, and the newest there are schemas for.
VERSIONS = ("1.25", "1.37")
#: Sidecar containers (`restartPolicy` of init containers) came with 1.29.
SIDECAR_VERSIONS = ("1.29", "1.37")

CUSTOM = json.loads((Path(__file__).parent / "custom-resources.json").read_text())
POD_OWNERS = {"Deployment", "StatefulSet", "Job"}
PRE_STOP_SECONDS = 5


def problems(docs, versions=VERSIONS, external=()):
    """All problems, as sentences. `external` names ConfigMaps, Secrets and claims made elsewhere."""
    found = []
    for doc in docs:
        label = f"{doc['kind']}/{doc['metadata']['name']}"
        for problem in _against_schema(doc, versions):
            found.append(f"{label}: {problem}")
        for pod in pods([doc]):
            for problem in _pod(pod, doc, docs, external):
                found.append(f"{label}: {problem}")
        for problem in _references(doc, docs):
            found.append(f"{label}: {problem}")
    names = [(doc["kind"], doc["metadata"].get("namespace"), doc["metadata"]["name"]) for doc in docs]
    found += [f"{name} is there twice" for name in sorted(set(names)) if names.count(name) > 1]
    return found


def pods(docs):
    """Every pod of the documents as {metadata, spec}."""
    for doc in docs:
        if doc["kind"] == "Pod":
            yield doc
        elif doc["kind"] in POD_OWNERS:
            yield doc["spec"]["template"]


def containers(pod):
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def is_proxy(container):
    return container["image"].startswith("ghcr.io/s3-mirror/s3-mirror:")


def proxies(docs):
    """Every container that runs the proxy, with its pod."""
    return [(pod, c) for pod in pods(docs) for c in containers(pod) if is_proxy(c)]


def _against_schema(doc, versions):
    custom = CUSTOM.get(f"{doc['apiVersion']}/{doc['kind']}")
    if custom:
        errors = jsonschema.Draft202012Validator(custom).iter_errors(doc)
        return [f"{error.json_path}: {error.message}" for error in errors]
    faults = []
    for version in versions:
        try:
            kubernetes_validate.validate(doc, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            faults.append(f"Kubernetes {version}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            faults.append(f"Kubernetes {version}: {error.message}")
    return faults


def _pod(pod, owner, docs, external):
    spec = pod["spec"]
    claims = owner["spec"].get("volumeClaimTemplates", [])
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in claims}
    made = {(doc["kind"], doc["metadata"]["name"]): doc for doc in docs}
    security = spec.get("securityContext", {})

    def needs(kind, reference, key=None):
        name = reference["name"] if "name" in reference else reference.get("claimName")
        if reference.get("optional") or name in external:
            return
        doc = made.get((kind, name))
        if doc is None:
            yield f"{kind} {name} is nowhere"
        elif key and key not in {**doc.get("data", {}), **doc.get("stringData", {})}:
            yield f"{kind} {name} has no key {key}"

    account = spec.get("serviceAccountName")
    if account not in (None, "default") and account not in external:
        yield from needs("ServiceAccount", {"name": account})
    for volume in spec.get("volumes", []):
        if "configMap" in volume:
            yield from needs("ConfigMap", volume["configMap"])
        if "persistentVolumeClaim" in volume:
            yield from needs("PersistentVolumeClaim", volume["persistentVolumeClaim"])
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccompProfile is not RuntimeDefault"

    ports = set()
    for container in containers(pod):
        name = container["name"]
        if container["image"].rpartition(":")[2] == "latest" or ":" not in container["image"]:
            yield f"{name}: the image has no version"
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation is not false"
        if own.get("capabilities", {}).get("drop") != ["ALL"]:
            yield f"{name}: keeps capabilities"
        user = own.get("runAsUser", security.get("runAsUser"))
        if not security.get("runAsNonRoot") or not user:
            yield f"{name}: may run as root"
        own_ports = {port.get("name") for port in container.get("ports", [])}
        for port in container.get("ports", []):
            if len(port.get("name", "")) > 15:
                yield f"{name}: port name {port['name']} is too long"
        ports |= own_ports
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            if isinstance(port, str) and port not in own_ports:
                yield f"{name}: {probe} asks port {port}, which is not there"
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"{name}: volume {mount['name']} is nowhere"
        for source in container.get("envFrom", []):
            yield from needs("ConfigMap", source.get("configMapRef", {"optional": True}))
            yield from needs("Secret", source.get("secretRef", {"optional": True}))
        names = [variable["name"] for variable in container.get("env", [])]
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            for kind, key in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
                if key in source:
                    yield from needs(kind, source[key], source[key]["key"])
        if len(names) != len(set(names)):
            yield f"{name}: a variable is there twice"
        if is_proxy(container):
            yield from _proxy(pod, container, docs)


def _proxy(pod, container, docs):
    spec = pod["spec"]
    if spec.get("enableServiceLinks") is not False:
        yield "service links may set POSTGRES_PORT"
    if not container["securityContext"].get("readOnlyRootFilesystem"):
        yield "the proxy's root file system is writable"
    if container["securityContext"].get("runAsUser", spec["securityContext"].get("runAsUser")) != 65532:
        yield "the proxy is not user 65532"
    if spec["securityContext"].get("fsGroup") != 65532:
        yield "the proxy cannot write its volume"
    variables = environment(container, docs)
    if variables.get("DATA_DIR") not in [m["mountPath"] for m in container.get("volumeMounts", [])]:
        yield "DATA_DIR is not on a volume"
    drain = int(variables.get("DRAIN_TIMEOUT_SECONDS", 25)) + PRE_STOP_SECONDS
    if spec.get("terminationGracePeriodSeconds", 30) < drain + 10:
        yield "the proxy is killed before it has drained"
    if "memory" not in container["resources"]["limits"]:
        yield "the proxy has no memory limit"


def environment(container, docs):
    """The variables of a container, as far as the documents say; a reference elsewhere is '?'."""
    made = {(doc["kind"], doc["metadata"]["name"]): doc for doc in docs}
    variables = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            doc = made.get(("ConfigMap", source["configMapRef"]["name"]), {})
        else:
            doc = made.get(("Secret", source["secretRef"]["name"]), {})
        variables |= doc.get("data", {}) | doc.get("stringData", {})
    for variable in container.get("env", []):
        value = variable.get("value", "?")
        source = variable.get("valueFrom", {})
        for kind, key in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
            doc = made.get((kind, source.get(key, {}).get("name")), {})
            value = (doc.get("data", {}) | doc.get("stringData", {})).get(source.get(key, {}).get("key"), value)
        # $(NAME) is replaced by what was set before it.
        for name, earlier in variables.items():
            value = value.replace(f"$({name})", earlier)
        variables[variable["name"]] = value
    return variables


def _references(doc, docs):
    """Selectors that select nothing, targets that are not there."""
    templates = [(owner, pod) for owner in docs for pod in pods([owner])]

    def selected(selector):
        return [
            pod for owner, pod in templates
            if selector.items() <= pod.get("metadata", {}).get("labels", {}).items()
            and owner["metadata"].get("namespace") == doc["metadata"].get("namespace")
        ]

    spec = doc.get("spec", {})
    if doc["kind"] == "Service":
        chosen = selected(spec["selector"])
        if not chosen:
            yield "selects no pod"
        for port in spec["ports"]:
            target = port.get("targetPort", port["port"])
            names = {p.get("name") for pod in chosen for c in containers(pod) for p in c.get("ports", [])}
            if isinstance(target, str) and target not in names:
                yield f"target port {target} is in no pod"
    elif doc["kind"] in ("Deployment", "StatefulSet"):
        labels = spec["template"]["metadata"]["labels"]
        if not spec["selector"]["matchLabels"].items() <= labels.items():
            yield "does not select its own pods"
        service = spec.get("serviceName")
        if service and not any(d["kind"] == "Service" and d["metadata"]["name"] == service for d in docs):
            yield f"Service {service} is nowhere"
    elif doc["kind"] == "PodDisruptionBudget":
        if not selected(spec["selector"]["matchLabels"]):
            yield "selects no pod"
    elif doc["kind"] == "NetworkPolicy":
        chosen = selected(spec["podSelector"]["matchLabels"])
        names = {p.get("name") for pod in chosen for c in containers(pod) for p in c.get("ports", [])}
        for rule in spec["ingress"]:
            for port in rule["ports"]:
                if port["port"] not in names:
                    yield f"port {port['port']} is in no pod"
    elif doc["kind"] == "HorizontalPodAutoscaler":
        target = spec["scaleTargetRef"]
        if not any(d["kind"] == target["kind"] and d["metadata"]["name"] == target["name"] for d in docs):
            yield "scales nothing"
    elif doc["kind"] == "Ingress":
        services = {d["metadata"]["name"]: d for d in docs if d["kind"] == "Service"}
        for rule in spec["rules"]:
            backend = rule["http"]["paths"][0]["backend"]["service"]
            ports = services.get(backend["name"], {}).get("spec", {}).get("ports", [])
            if backend["port"]["name"] not in [port["name"] for port in ports]:
                yield f"{rule['host']} leads nowhere"
    elif doc["kind"] == "ServiceMonitor":
        wanted = spec["selector"]["matchLabels"]
        matching = [
            d for d in docs
            if d["kind"] == "Service" and wanted.items() <= d["metadata"]["labels"].items()
        ]
        if len(matching) != 1:
            yield f"selects {len(matching)} services"
        elif spec["endpoints"][0]["port"] not in [p["name"] for p in matching[0]["spec"]["ports"]]:
            yield "asks a port that is not there"
