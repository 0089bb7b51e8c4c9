"""What the files become: helm, kustomize and the compose loader, each run for real."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
CHART = REPOSITORY / "charts" / "s3-mirror"

#: The three-line start of the chart's README, as data.
VALUES = {
    "s3": {
        "mainAccessKey": "main-access",
        "mainSecretKey": "main-secret",
        "mirrorEndpoint": "https://mirror.example.com",
        "mirrorAccessKey": "mirror-access",
        "mirrorSecretKey": "mirror-secret",
    },
    "postgresql": {"url": "postgres://user:pg-secret@postgres:5432/s3_mirror"},
}


class Refused(Exception):
    """The tool said no; the text is what it said."""


def run(*command, cwd=None, stdin=None):
    """Runs a tool; its standard output, or Refused with its standard error."""
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd, input=stdin, capture_output=True, text=True, timeout=120, check=False,
    )
    if result.returncode != 0:
        raise Refused(result.stderr + result.stdout)
    return result.stdout


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def merged(base, over):
    """`over` laid over `base`, mapping by mapping, as helm does with values files."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}


def helm_text(values, *arguments, chart=CHART):
    return run(
        "helm", "template", "s3-mirror", chart, "--namespace", "s3-mirror", "--values", "-",
        *arguments, stdin=json.dumps(values),
    )


def helm(over=None, *arguments, base=VALUES):
    """The chart's documents for the base values with `over` laid over them."""
    return documents(helm_text(merged(base, over or {}), *arguments))


def kustomize(folder):
    return documents(run("kustomize", "build", REPOSITORY / folder))


def plain(*paths):
    """The documents of YAML files, in order."""
    return [found for path in paths for found in documents((REPOSITORY / path).read_text())]


def kubectl_apply_reads(folder):
    """The files `kubectl apply -f folder/` takes, in its order: by name, three suffixes."""
    suffixes = {".json", ".yaml", ".yml"}
    return sorted(path for path in (REPOSITORY / folder).iterdir() if path.suffix in suffixes)


def helm_notes(values):
    """What `helm install` prints at its end; helm itself shows it only beside a cluster."""
    with tempfile.TemporaryDirectory() as directory:
        chart = Path(directory) / "s3-mirror"
        shutil.copytree(CHART, chart)
        (chart / "templates/NOTES.txt").rename(chart / "notes.tpl")
        (chart / "templates/notes.yaml").write_text(
            'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\n'
            'data: {notes: {{ tpl (.Files.Get "notes.tpl") . | toJson }}}\n'
        )
        docs = documents(helm_text(values, "--show-only", "templates/notes.yaml", chart=chart))
    return docs[0]["data"]["notes"]


def compose(*files, environment=None):
    """What Docker Compose makes of the files beside a .env that holds `environment`."""
    environment = environment or {}
    with tempfile.TemporaryDirectory() as directory:
        # A .env of the developer's own must not change what is tested.
        for file in files:
            shutil.copy(REPOSITORY / file, directory)
        text = "".join(f"{name}={value}\n" for name, value in environment.items())
        (Path(directory) / ".env").write_text(text)
        names = [Path(file).name for file in files]
        return json.loads(run("compose-load", *names, cwd=directory))


def one(docs, kind, name=None):
    """The only document of that kind (and name)."""
    found = [
        doc for doc in docs
        if doc["kind"] == kind and (name is None or doc["metadata"]["name"] == name)
    ]
    assert len(found) == 1, f"{len(found)} documents of kind {kind} {name or ''}"
    return found[0]
