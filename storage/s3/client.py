"""Clients of S3 and of servers that speak its protocol, and their errors in our words.

Credentials come from the usual AWS places only: the environment, the profiles of `~/.aws`, the role
of the machine. They are in no setting, no row and no pickle.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from botocore import exceptions
from botocore.config import Config

from storage.errors import (
    NotFoundError,
    StorageError,
    StorageFull,
    TerminalStorageError,
    TransientStorageError,
)
from storage.s3.config import ATTEMPTS, CONNECT_TIMEOUT_S, S3Config, parse

__all__ = [
    "ATTEMPTS",
    "Credentials",
    "S3Config",
    "client",
    "credentials",
    "endpoint",
    "is_worth_repeating",
    "parse",
    "region",
    "translated",
]

MAX_CONNECTIONS = 32
# A server that is told no region signs with this one.
_REGION = "us-east-1"
_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile of ~/.aws that has them"
)
_GONE = frozenset({"NoSuchKey", "404", "NotFound"})
_REFUSED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled"})
_WRONG_KEY = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "401", "Unauthorized"})
_EXPIRED = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshNeeded"}
)
_ELSEWHERE = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "301", "307"})
_FULL = frozenset({"507", "InsufficientStorage", "XMinioStorageFull", "QuotaExceeded"})
# What arrived is not what was sent, or two wrote the same at once: to be sent again.
_AGAIN = frozenset(
    {
        "BadDigest",
        "XAmzContentSHA256Mismatch",
        "XAmzContentChecksumMismatch",
        "IncompleteBody",
        "ConditionalRequestConflict",
        "OperationAborted",
    }
)
_BUSY = frozenset({"SlowDown", "Throttling", "RequestTimeout", "TooManyRequests", "429"})
# What boto3 raises where it has no credentials, or cannot get them.
_WITHOUT_CREDENTIALS = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.ProfileNotFound,
    exceptions.TokenRetrievalError,
    exceptions.SSOError,
)
_CUT = (
    exceptions.ConnectionError,
    exceptions.HTTPClientError,
    exceptions.IncompleteReadError,
    exceptions.FlexibleChecksumError,
)


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A key as it is valid now; `token` is empty for one that does not expire."""

    key_id: str
    secret: str
    token: str

    def __repr__(self) -> str:
        return "Credentials(***)"


def client(config: S3Config) -> Any:
    """boto3's client, one in a process; threads may share it."""
    with _making, translated("s3", config):
        return _client(config, os.getpid())


def credentials(config: S3Config) -> Credentials:
    """The credentials that the client signs with now; raises TerminalStorageError without any."""
    with _making, translated("s3", config):
        found = _session(config, os.getpid()).get_credentials()
        if found is None:
            raise exceptions.NoCredentialsError
        now = found.get_frozen_credentials()
    return Credentials(key_id=now.access_key, secret=now.secret_key, token=now.token or "")


def region(config: S3Config) -> str:
    """The region that the client signs for."""
    return str(client(config).meta.region_name)


def endpoint(config: S3Config) -> str:
    """The server's address as the client has it; empty: AWS's own, by region."""
    found = str(client(config).meta.endpoint_url)
    return "" if found.rstrip("/").endswith(".amazonaws.com") else found.rstrip("/")


@contextmanager
def translated(name: str, config: S3Config) -> Iterator[None]:
    """Turn boto3's errors into ours, in one line that begins with `name`."""
    try:
        yield
    except (exceptions.BotoCoreError, exceptions.ClientError, exceptions.HTTPClientError) as error:
        raise _translation(name, config, error) from error


def is_worth_repeating(error: TransientStorageError) -> bool:
    """Whether the server has refused what another try may well bring; boto3 does not try again."""
    cause = error.__cause__
    return isinstance(cause, exceptions.ClientError) and _code(cause) in _AGAIN


_making = threading.RLock()


@cache
def _session(config: S3Config, _process: int) -> Any:
    return boto3.Session(profile_name=config.profile or None, region_name=config.region or None)


@cache
def _client(config: S3Config, process: int) -> Any:
    session = _session(config, process)
    made = session.client(
        "s3",
        endpoint_url=config.endpoint_url or None,
        region_name=session.region_name or _REGION,
        config=Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=config.read_timeout_s,
            max_pool_connections=MAX_CONNECTIONS,
            s3={"addressing_style": "path"} if config.endpoint_url else {},
        ),
    )
    made.meta.events.register("before-parse.s3", _refuse_half_a_head)
    return made


def _refuse_half_a_head(response_dict: dict[str, Any], **_: object) -> None:
    """Have boto3 ask again where the connection ended within the head of an answer.

    Python takes what came for all of it: a list of objects would be empty, an object without bytes.
    """
    headers = response_dict["headers"]
    sized = "content-length" in headers or "transfer-encoding" in headers
    if response_dict["status_code"] == 200 and not (sized and "date" in headers):
        response_dict["status_code"] = 502
        response_dict["body"] = b""


def _translation(name: str, config: S3Config, error: Exception) -> StorageError:
    if isinstance(error, exceptions.ClientError):
        return _answered(name, config, error)
    if isinstance(error, _WITHOUT_CREDENTIALS):
        return TerminalStorageError(f"{name}: no credentials ({error}); {_CREDENTIALS}")
    if isinstance(error, _CUT):
        return TransientStorageError(
            f"{name}: {_server(config)} does not answer or was cut off ({_line(error)}); check "
            f"{config.setting} and the network, and run the command again"
        )
    return TerminalStorageError(f"{name}: {_line(error)}; correct the settings of AWS")


def _server(config: S3Config) -> str:
    return f"the server {config.endpoint_url}" if config.endpoint_url else "the server of AWS"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _code(error: exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _answered(name: str, config: S3Config, error: exceptions.ClientError) -> StorageError:
    """By the server's code, of which servers have many, then by HTTP's."""
    code = _code(error)
    metadata = error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    server = _server(config)
    if code == "NoSuchBucket":
        return NotFoundError(f"{name}: there is no such bucket; make it, or correct its name")
    if code in _GONE:
        return NotFoundError(f"{name}: no such object; restore it from a backup")
    if code in _FULL or status == 507:
        return StorageFull(f"{name}: {server} is full ({code}); make room and run it again")
    if code in _AGAIN:
        return TransientStorageError(
            f"{name}: {server} did not get what was sent ({code}); run the command again"
        )
    if code in _BUSY or status >= 500:
        tries = int(metadata.get("RetryAttempts", 0)) + 1
        return TransientStorageError(
            f"{name}: {server} is busy or failing ({code or status}; {tries} tries); run the "
            "command again"
        )
    return TerminalStorageError(f"{name}: {server}: {_remedy(code)} ({code or status})")


def _remedy(code: str) -> str:
    if code in _REFUSED:
        return "these credentials may not do that; give them the right to, or use others"
    if code in _WRONG_KEY:
        return f"it does not know these credentials; {_CREDENTIALS}"
    if code in _EXPIRED:
        return "the credentials have expired; sign in to AWS again"
    if code in _ELSEWHERE:
        return "the bucket is in another region; set the region"
    if code == "RequestTimeTooSkewed":
        return "the clock of this machine is wrong; set it"
    return "it refused the request"
