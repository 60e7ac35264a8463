"""What every test shares: real data, Chromium, servers of its own, seeds; no hidden gap in CI."""

import gc
import importlib.util
import os
import random
import shutil
import signal
import ssl
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
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
def imports_are_no_garbage() -> None:
    """Half a million objects of packages stay to the end: cycles are looked for in what is new."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture(scope="session")
def _faulty_s3(s3_server: Any) -> Iterator[Any]:
    proxy = _module(PROJECT / "tests" / "faulty_s3.py")
    with proxy.FaultyS3(s3_server.endpoint_url) as running:
        yield running


@pytest.fixture
def faulty_s3(_faulty_s3: Any) -> Iterator[Any]:
    """The same server behind a proxy that fails as it is told to; mark the test `s3`."""
    yield _faulty_s3
    _faulty_s3.heal()
    _faulty_s3.forget()


def _benchmarks_module(name: str) -> ModuleType:
    return _module(PROJECT / "benchmarks" / f"{name}.py")


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Site:
    """An https server on loopback: what it has, what it does next, what it was asked."""

    port: int
    ca_file: Path
    files: dict[str, bytes] = field(default_factory=dict)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    pause_s: float = 0.0
    asked: list[tuple[str, str]] = field(default_factory=list)

    def url(self, path: str, host: str = "localhost") -> str:
        """The address of a file."""
        return f"https://{host}:{self.port}{path}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """What is wanted next, else the file."""
        self.asked.append((handler.path, handler.headers["Host"]))
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        body = self.files.get(handler.path)
        if body is None and status == 200:
            status = 404
        handler.send_response(status)
        if "Transfer-Encoding" not in headers:
            headers = {"Content-Length": str(len(body or b"")), **headers}
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if status == 200 and body is not None:
            self._send(handler, body[: self.cuts.pop(0)] if self.cuts else body, headers)

    def _send(self, handler: BaseHTTPRequestHandler, body: bytes, headers: dict[str, str]) -> None:
        if "Transfer-Encoding" in headers:
            body = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
        for start in range(0, len(body), len(body) if not self.pause_s else 1):
            handler.wfile.write(body[start:] if not self.pause_s else body[start : start + 1])
            self._stopped.wait(self.pause_s)

    def __post_init__(self) -> None:
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let whoever is being served go."""
        self._stopped.set()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An authority of our own, and what it has signed for localhost, in PEM files."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ec.generate_private_key(ec.SECP256R1())
    us = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "maskloop's tests")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    made = (
        x509.CertificateBuilder(us, us, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    authority, server = folder / "authority.pem", folder / "server.pem"
    authority.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    server.write_bytes(private + authority.read_bytes())
    return authority, server


@pytest.fixture
def https_site(certificates: tuple[Path, Path]) -> Iterator[Site]:
    """A real https server, whose certificate an authority of our own has signed."""
    authority, server_pem = certificates

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # who asked has hung up

        def finish_request(self, request: Any, client_address: Any) -> None:
            # In the thread of the connection, or one that never speaks would stop them all.
            with context.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_pem)
    with Server(("127.0.0.1", 0), Handler) as server:
        site = Site(port=server.server_port, ca_file=authority)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.stop()
        server.shutdown()
        thread.join()


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
