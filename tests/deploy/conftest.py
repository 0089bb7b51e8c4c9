"""Fixtures for what is run: a machine for processes, a PostgreSQL server."""

import pytest
from deploylib.local import Machine
from support.postgres import Cluster
from support.process import REGISTRY


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """A server with the user, password and database of the compose file."""
    cluster = Cluster(tmp_path_factory.mktemp("postgres"))
    cluster.user = cluster.password = "s3mirror"
    cluster.start()
    with cluster.connect("postgres") as connection:
        connection.execute("CREATE DATABASE s3_mirror")
    yield cluster
    cluster.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows what every process said last."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for process in REGISTRY:
            report.sections.append((f"output of {process.name}", process.output_tail()))
