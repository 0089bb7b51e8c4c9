"""The end-to-end suite's fixtures and harness (`tests/e2e`), and a headless Chromium."""

import importlib.util
import sys
from pathlib import Path

import pytest

END_TO_END = Path(__file__).resolve().parent.parent / "e2e"
sys.path.insert(0, str(END_TO_END))

_spec = importlib.util.spec_from_file_location("e2e_conftest", END_TO_END / "conftest.py")
_e2e = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_e2e)

pytest_report_header = _e2e.pytest_report_header
pytest_runtest_makereport = _e2e.pytest_runtest_makereport
logs, stores, cluster = _e2e.logs, _e2e.stores, _e2e.cluster
lab, module_lab = _e2e.lab, _e2e.module_lab


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture
def browser(tmp_path, scheme):
    from browser import Browser

    opened = Browser(tmp_path / "profile", scheme)
    yield opened
    opened.close()
