"""The Dockerfiles: linted, and building from exactly what they copy."""

import json
import re
import shutil

import pytest
from deploylib.render import REPOSITORY, run

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


@pytest.mark.parametrize("path", ["Dockerfile", "test-client/Dockerfile"])
def test_hadolint_has_nothing_to_say(path):
    assert run("hadolint", REPOSITORY / path) == ""


def test_the_toolchain_is_the_pinned_one_and_both_stages_are_the_same_debian():
    channel = re.search(r'channel = "([\d.]+)"', (REPOSITORY / "rust-toolchain.toml").read_text())[1]
    image, suite = re.search(r"FROM rust:([\d.]+)-(\w+) AS build", DOCKERFILE).groups()
    assert channel == image
    assert f"FROM debian:{suite}-slim" in DOCKERFILE


def test_it_runs_as_a_numbered_user_without_privileges():
    assert "\nUSER 65532:65532\n" in DOCKERFILE
    assert 'ENTRYPOINT ["/usr/local/bin/s3-mirror"]' in DOCKERFILE


def test_cargo_needs_no_file_that_the_dockerfile_does_not_copy(tmp_path):
    """Targets of the manifest that point elsewhere would only show when an image is built."""
    for name in ("Cargo.toml", "Cargo.lock"):
        shutil.copy(REPOSITORY / name, tmp_path)
    stand_ins = re.search(r"RUN (mkdir -p src.*?)\\\n\s+&& scripts/build", DOCKERFILE, re.DOTALL)[1]
    run("sh", "-c", stand_ins.replace("\\\n", " "), cwd=tmp_path)
    metadata = json.loads(
        run("cargo", "metadata", "--no-deps", "--locked", "--offline", "--format-version=1", cwd=tmp_path)
    )
    assert "s3-mirror" in [target["name"] for target in metadata["packages"][0]["targets"]]


def copied():
    sources = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        sources |= set(line.split()[:-1])
    return sources


def test_sources_include_only_what_is_copied():
    there = [(REPOSITORY / source).resolve() for source in copied()]
    for path in (REPOSITORY / "src").rglob("*.rs"):
        for included in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', path.read_text()):
            target = (path.parent / included).resolve()
            assert any(target.is_relative_to(source) for source in there), f"{path} includes {included}"


def test_the_build_context_holds_what_is_copied():
    admitted = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert copied() == admitted
