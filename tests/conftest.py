"""What every test shares: real data, Chromium, a Postgres, an S3, seeds; no hidden gap in CI."""

import importlib.util
import os
import random
import shutil
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, sync_playwright

PROJECT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NO_BROWSER = "Chromium not found; run: sudo apt-get install chromium fonts-dejavu-core"
NO_DATA = "real images not found; set MASKLOOP_DATA to their folder"


def in_ci() -> bool:
    """Continuous integration sets CI; there a missing browser or package is a broken machine."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if in_ci() and report.skipped and _hides_a_gap(item, report):
        report.outcome = "failed"
        report.longrepr = f"CI may not skip this test: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if in_ci() and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"CI may not skip a whole file: {report.longrepr}"
    return report


def _hides_a_gap(item: pytest.Item, report: pytest.TestReport) -> bool:
    if hasattr(report, "wasxfail"):
        return False
    # The real images are not part of the project: a clone without them is whole.
    needs_data_only = "data_dir" in getattr(item, "fixturenames", ()) and NO_DATA in str(
        report.longrepr
    )
    needs = any(item.get_closest_marker(name) for name in ("browser", "data", "postgres", "s3"))
    return needs and not needs_data_only


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> None:
    """Small tensors gain nothing from threads, and sums keep their order with one."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def hears_ctrl_c() -> None:
    """Shells ignore SIGINT in what they start in the background, and so would its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the real images (nuclei, photos, segments); mark the test `data`."""
    folder = Path(os.environ.get("MASKLOOP_DATA") or PROJECT.parent / "shared" / "data")
    if not (folder / "nuclei" / "annotations.json").is_file():
        pytest.skip(NO_DATA)
    return folder


@pytest.fixture(scope="session")
def local_postgres() -> ModuleType:
    """The module of that name, which the benchmarks use too."""
    return _benchmarks_module("local_postgres")


@pytest.fixture(scope="session")
def postgres(local_postgres: ModuleType) -> Iterator[Any]:
    """A real server for all tests of this process; mark the test `postgres`."""
    try:
        # Nothing outlives the tests, so nothing needs to be on disk.
        server = local_postgres.LocalPostgres({"fsync": "off"})
    except local_postgres.NoPostgresError as error:
        pytest.skip(f"no Postgres: {error}")
    with server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """A real server for all tests of this process, `endpoint_url`; mark the test `s3`.

    Credentials for it are in the environment, for this process and those that it starts.
    """
    local_s3 = _benchmarks_module("local_s3")
    try:
        server = local_s3.LocalS3()
    except local_s3.NoS3Error as error:
        pytest.skip(f"no S3: {error}")
    with server, pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_PROFILE", raising=False)
        patch.delenv("AWS_SESSION_TOKEN", raising=False)
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


def _benchmarks_module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PROJECT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Not wider than a module: while Playwright's synchronous driver is alive, its thread counts as
# running an event loop, and a test that calls asyncio.run would fail.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, driven by Playwright; mark the test `browser`."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(NO_BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            # Containers have no user namespaces to sandbox in and a small /dev/shm.
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        yield browser
        browser.close()
