"""A client knows whose credentials it has, and says in one line what went wrong."""

import pickle
import socket
from typing import Any

import pytest

from storage.errors import NotFoundError, TerminalStorageError, TransientStorageError
from storage.s3 import client as s3
from storage.s3.client import S3Config


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://bucket/a/b/", ("bucket", "a/b")),
        ("s3://my.bucket-1/a b", ("my.bucket-1", "a b")),
    ],
)
def test_an_address_has_a_bucket_and_a_prefix(address: str, expected: tuple[str, str]) -> None:
    assert s3.parse(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "",
        "s3://",
        "s3:///x",
        "bucket/x",
        "https://b/x",
        "s3://b",
        "s3://Bucket/x",
        "s3://bucket/../x",
        "s3://bucket/a//b",
        "s3://bucket/./b",
        "s3://user:secret@bucket/x",
    ],
)
def test_another_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="must be s3://BUCKET/PREFIX"):
        s3.parse(address)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:80", "ftp://host", "https://host/path", "https://a:secret@h"]
)
def test_an_endpoint_is_a_plain_address(url: str) -> None:
    with pytest.raises(ValueError, match="endpoint: must be http://HOST:PORT") as caught:
        S3Config(endpoint_url=url)
    assert "secret" not in str(caught.value)


@pytest.mark.s3
def test_one_client_in_a_process(s3_server: Any) -> None:
    config = S3Config(endpoint_url=s3_server.endpoint_url)
    again = pickle.loads(pickle.dumps(config))
    assert s3.client(config) is s3.client(again)
    assert s3.endpoint(config) == s3_server.endpoint_url
    assert s3.region(config) == "us-east-1"
    assert s3.region(S3Config(region="eu-central-1")) == "eu-central-1"
    assert s3.endpoint(S3Config(region="eu-central-1")) == ""


@pytest.mark.s3
def test_credentials_come_from_the_environment_and_are_never_shown(s3_server: Any) -> None:
    config = S3Config(endpoint_url=s3_server.endpoint_url)
    found = s3.credentials(config)
    assert (found.key_id, found.secret, found.token) == (s3_server.key_id, s3_server.secret, "")
    assert s3_server.secret not in repr(found)
    assert s3_server.secret.encode() not in pickle.dumps(config)


@pytest.mark.s3
def test_what_is_not_there_is_not_found(s3_server: Any) -> None:
    client = s3.client(S3Config(endpoint_url=s3_server.endpoint_url))
    client.create_bucket(Bucket="there")
    with pytest.raises(NotFoundError, match="it: no such object"), s3.translated("it", S3Config()):
        client.get_object(Bucket="there", Key="a")
    with (
        pytest.raises(NotFoundError, match="it: there is no such bucket; make it"),
        s3.translated("it", S3Config()),
    ):
        client.get_object(Bucket="nowhere", Key="a")


@pytest.mark.s3
def test_wrong_credentials_are_named(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    # A region of its own: this client must not be another test's.
    client = s3.client(S3Config(endpoint_url=s3_server.endpoint_url, region="eu-west-3"))
    with (
        pytest.raises(TerminalStorageError, match="does not know these credentials"),
        s3.translated("it", S3Config()),
    ):
        client.list_objects_v2(Bucket="there")


def test_no_credentials_and_no_profile_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(TerminalStorageError, match=r"no credentials .*AWS_ACCESS_KEY_ID"):
        s3.credentials(S3Config(region="eu-west-2"))
    with pytest.raises(TerminalStorageError, match=r"no credentials .*nobody.*profile"):
        s3.client(S3Config(profile="nobody"))


def test_a_server_that_is_not_there_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        client = s3.client(S3Config(endpoint_url=url))
        with (
            pytest.raises(TransientStorageError, match="does not answer"),
            s3.translated("it", S3Config()),
        ):
            client.list_objects_v2(Bucket="there")
