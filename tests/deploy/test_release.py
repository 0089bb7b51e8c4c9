"""The release workflow and the scripts: linted, and the steps that need no registry run."""

import os
import re
import shutil
import subprocess

import pytest
from deploylib.render import CHART, REPOSITORY, Refused, plain, run

WORKFLOW = ".github/workflows/release.yml"
VERSION = plain("charts/s3-mirror/Chart.yaml")[0]["version"]


def scripts():
    """Every shell script of the repository."""
    for folder in ("scripts", ".ci", "tests", "benches"):
        for path in (REPOSITORY / folder).rglob("*"):
            if path.is_file() and "node_modules" not in path.parts:
                with path.open("rb") as file:
                    if re.match(rb"#!.*\b(ba)?sh\b", file.readline()):
                        yield path


def test_actionlint_has_nothing_to_say():
    """Its expressions, contexts and types, and the shell of its steps."""
    assert run("actionlint", "-shellcheck", shutil.which("shellcheck"), REPOSITORY / WORKFLOW) == ""


def test_shellcheck_has_nothing_to_say():
    found = sorted(scripts())
    assert len(found) > 8, found
    # Functions that are called by their names, with what is left of the arguments (scripts/test).
    assert run("shellcheck", "--exclude=SC2119,SC2120", *found) == ""


def step(job, name):
    """The script of a step."""
    [found] = [step for step in plain(WORKFLOW)[0]["jobs"][job]["steps"] if step.get("name") == name]
    return found["run"]


def bash(script, directory, **environment):
    """Runs a step as the runner does; whether it passed."""
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script], cwd=directory,
        env={"PATH": os.environ["PATH"], "HOME": str(directory), **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode == 0


@pytest.mark.parametrize("tag,passes", [(f"v{VERSION}", True), ("v99.0.0", False), ("v", False)])
def test_only_a_tag_that_cargo_and_the_chart_agree_with_is_released(tmp_path, tag, passes):
    output = tmp_path / "output"
    script = step("check", "The tag is the version that Cargo.toml and the chart name")
    assert bash(script, REPOSITORY, TAG=tag, GITHUB_OUTPUT=str(output)) == passes
    if passes:
        assert output.read_text() == f"version={VERSION}\n"


def test_the_chart_that_is_pushed_names_the_image_that_was_pushed(tmp_path):
    """Up to the login: a registry is not at hand."""
    shutil.copytree(CHART, tmp_path / "charts/s3-mirror")
    script = step("publish", "Package and push the chart")
    before, login, _ = script.partition("printf '%s' \"$REGISTRY_PASSWORD\"")
    assert login, script
    image = "registry.example/team/s3-mirror"
    assert bash(before, tmp_path, IMAGE=image, VERSION=VERSION)
    package = tmp_path / f"dist/s3-mirror-{VERSION}.tgz"
    rendered = run("helm", "template", "r", package, "--set", "s3.mirrorEndpoint=http://m")
    assert f'image: "{image}:{VERSION}"' in rendered


def test_a_pre_release_is_not_called_latest():
    script = step("publish", "One name for both machines")
    cases = script[script.index("tags=("):script.index("docker buildx")]
    for version, latest in (("1.2.3", True), ("1.2.3-rc.1", False)):
        shown = run("bash", "-ec", f'IMAGE=i VERSION={version}\n{cases}\necho "${{tags[@]}}"')
        assert ("i:latest" in shown) == latest and f"i:{version}" in shown


def test_a_broken_workflow_is_seen(tmp_path):
    text = (REPOSITORY / WORKFLOW).read_text().replace("needs: check", "needs: chek")
    broken = tmp_path / "release.yml"
    broken.write_text(text)
    with pytest.raises(Refused, match="chek"):
        run("actionlint", broken)
