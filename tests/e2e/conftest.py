"""Fixtures: two stores and one PostgreSQL cluster for the whole run, a laboratory per test."""

import functools
import shutil

import pytest

from support import preload, process
from support.lab import Lab
from support.postgres import Cluster, version_banner
from support.stores import Store
from support.sync import Syncs


def pytest_report_header(config):
    return [f"s3-mirror binary: {process.binary()}", f"PostgreSQL: {version_banner()}"]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the end of what every process then alive had written."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for each in process.REGISTRY:
            if each.starts:
                title = f"{each.name} (whole output in {each.directory})"
                report.sections.append((title, each.output_tail()))


@pytest.fixture(scope="session")
def logs(tmp_path_factory):
    return tmp_path_factory.mktemp("session-logs")


@pytest.fixture(scope="session")
def stores(tmp_path_factory, logs):
    directory = tmp_path_factory.mktemp("stores")
    main = Store("main", directory, logs).start()
    mirror = Store("mirror", directory, logs).start()
    yield main, mirror
    for store in (main, mirror):
        try:
            store.process.resume()
            store.stop()
        finally:
            store.process.forget()
    # Logs are worth keeping after a run; gigabytes of test objects are not.
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(logs):
    running = Cluster(logs).start()
    yield running
    running.close()
    running.process.forget()


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory):
    """A library of `support`, by its name, compiled once."""
    directory = tmp_path_factory.mktemp("preloaded")
    return functools.cache(lambda name: preload.build(name, directory))


def _lab(stores, cluster, directory):
    laboratory = Lab(*stores, cluster, directory)
    yield laboratory
    laboratory.close()


@pytest.fixture
def lab(stores, cluster, tmp_path):
    yield from _lab(stores, cluster, tmp_path)


@pytest.fixture
def syncs(lab, preloaded, tmp_path):
    syncs = lab.closing(Syncs(preloaded("sync"), tmp_path))
    yield syncs
    # Whatever the test has come to: a proxy that hangs at its disk does not end.
    syncs.go_on()


@pytest.fixture(scope="module")
def module_lab(stores, cluster, tmp_path_factory, request):
    yield from _lab(stores, cluster, tmp_path_factory.mktemp(request.module.__name__))


@pytest.fixture(scope="module")
def steady(module_lab):
    """One undisturbed proxy per module, with a PostgreSQL inventory: (lab, proxy, inventory)."""
    inventory = module_lab.postgres()
    proxy = module_lab.proxy(inventory.settings())
    return module_lab, proxy, inventory
