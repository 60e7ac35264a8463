"""What networks and servers do to requests: objects come right, or one line says why not."""

import hashlib
import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from storage.errors import (
    ChecksumMismatchError,
    NotFoundError,
    StorageError,
    TerminalStorageError,
    TransientStorageError,
)
from storage.s3.client import client
from storage.s3.config import S3Config
from storage.s3.objects import S3Objects
from storage.s3.reading import S3Reader

pytestmark = pytest.mark.s3
BUCKET = "faults"
DATA = os.urandom(200_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
URI = "models/a"
VERBS = ("PUT", "GET", "HEAD", "DELETE", "LIST")
FOR_EVER = 1000
PASSING = (
    "busy",
    "failing",
    "reset",
    "reset midway",
    "black hole",
    "cut",
    "cut head",
    "cut upload",
    "lost",
    "slow",
)
# Not those where a deletion that was answered at all is done.
LASTING = (
    "failing",
    "reset",
    "black hole",
    pytest.param("reset midway", marks=pytest.mark.slow),
    pytest.param("cut upload", marks=pytest.mark.slow),
    pytest.param("lost", marks=pytest.mark.slow),
)


@pytest.fixture(scope="module")
def bucket(s3_server: Any) -> str:
    client(S3Config(endpoint_url=s3_server.endpoint_url)).create_bucket(Bucket=BUCKET)
    return BUCKET


@pytest.fixture
def straight(s3_server: Any, bucket: str) -> S3Objects:
    """The objects without the proxy."""
    config = S3Config(endpoint_url=s3_server.endpoint_url)
    return S3Objects(bucket=bucket, prefix=uuid.uuid4().hex, config=config)


@pytest.fixture
def objects(straight: S3Objects, faulty_s3: Any) -> S3Objects:
    """The same through it, with little patience, but enough for a busy machine."""
    config = S3Config(endpoint_url=faulty_s3.endpoint_url, read_timeout_s=1.0)
    return replace(straight, config=config)


@pytest.fixture
def alone(objects: S3Objects, request: pytest.FixtureRequest) -> S3Objects:
    """With a client of its own: boto3's gives up sooner after many faults."""
    different = sum(request.node.name.encode()) / 1e7
    return replace(objects, config=replace(objects.config, read_timeout_s=0.15 + different))


def ask(verb: str, objects: S3Objects) -> None:
    """One call that needs this verb, and whether it gives what it should."""
    if verb == "PUT":
        assert objects.put(URI, DATA).sha256 == SHA256
    elif verb == "GET":
        assert objects.get(URI, sha256=SHA256) == DATA
        assert objects.sha256(URI) == SHA256
    elif verb == "HEAD":
        found = objects.find(URI)
        assert found is not None
        assert found.bytes == len(DATA)
    elif verb == "LIST":
        assert [(each.uri, each.bytes) for each in objects.below("models")] == [(URI, len(DATA))]
    else:
        objects.remove(URI)


def there(verb: str, straight: S3Objects) -> bool:
    """Whether after this verb the object is where it should be, and whole."""
    if verb == "DELETE":
        return straight.find(URI) is None
    return straight.sha256(URI) == SHA256


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", PASSING)
def test_what_passes_is_survived(
    objects: S3Objects, straight: S3Objects, faulty_s3: Any, kind: str, verb: str
) -> None:
    if verb != "PUT":
        straight.put(URI, DATA)
    faulty_s3.fail(kind, verb)
    ask(verb, objects)
    assert faulty_s3.struck == [(kind, verb)]
    assert there(verb, straight)


@pytest.mark.parametrize("kind", LASTING)
def test_what_lasts_is_said_in_a_line_and_the_same_goes_on_later(
    alone: S3Objects, straight: S3Objects, faulty_s3: Any, kind: str
) -> None:
    for verb in VERBS:
        if verb != "PUT":
            straight.put(URI, DATA)
        faulty_s3.fail(kind, verb, times=FOR_EVER)
        with pytest.raises(TransientStorageError, match="run the command again") as caught:
            ask(verb, alone)
        assert_a_line(caught.value, faulty_s3.endpoint_url)
        faulty_s3.heal()
        ask(verb, alone)
        assert there(verb, straight)
    assert len(faulty_s3.struck) == 5 * len(VERBS), "no more than five tries of each"


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_server_that_stays_busy_is_said(alone: S3Objects, faulty_s3: Any, verb: str) -> None:
    faulty_s3.fail("busy", verb, times=FOR_EVER)
    with pytest.raises(TransientStorageError, match=r"busy or failing \(\w+; 5 tries\)") as caught:
        ask(verb, alone)
    assert_a_line(caught.value, faulty_s3.endpoint_url)


@pytest.mark.parametrize("verb", ["GET", "LIST"])
@pytest.mark.parametrize("kind", ["cut", "cut head"])
def test_a_body_that_never_comes_whole_is_never_taken_for_one(
    alone: S3Objects, straight: S3Objects, faulty_s3: Any, kind: str, verb: str
) -> None:
    straight.put(URI, DATA)
    faulty_s3.fail(kind, verb, times=FOR_EVER)
    with pytest.raises(TransientStorageError, match="run the command again") as caught:
        ask(verb, alone)
    assert_a_line(caught.value, faulty_s3.endpoint_url)
    faulty_s3.heal()
    ask(verb, alone)


@pytest.mark.parametrize("verb", VERBS)
def test_a_refusal_is_final_and_names_the_server(
    objects: S3Objects, straight: S3Objects, faulty_s3: Any, verb: str
) -> None:
    if verb != "PUT":
        straight.put(URI, DATA)
    faulty_s3.fail("forbidden", verb)
    with pytest.raises(TerminalStorageError, match="these credentials may not do that") as caught:
        ask(verb, objects)
    assert_a_line(caught.value, faulty_s3.endpoint_url)
    assert len(faulty_s3.struck) == 1


@pytest.mark.parametrize("call", [lambda o: o.get(URI, sha256=SHA256), lambda o: o.sha256(URI)])
def test_what_the_server_does_not_find_is_not_found(
    objects: S3Objects, straight: S3Objects, faulty_s3: Any, call: Callable[[S3Objects], Any]
) -> None:
    straight.put(URI, DATA)
    faulty_s3.fail("missing", "GET")
    with pytest.raises(NotFoundError, match=f"^{URI}: no such object"):
        call(objects)
    faulty_s3.fail("missing", "HEAD")
    assert objects.find(URI) is None


def test_what_is_gone_already_is_removed(objects: S3Objects, faulty_s3: Any) -> None:
    faulty_s3.fail("missing", "DELETE")
    objects.remove(URI)


def test_a_byte_that_changes_on_its_way_is_sent_and_read_again(
    objects: S3Objects, straight: S3Objects, faulty_s3: Any
) -> None:
    faulty_s3.fail("flip", "PUT")
    objects.put(URI, DATA)
    assert straight.sha256(URI) == SHA256
    faulty_s3.fail("flip", "GET")
    assert objects.get(URI, sha256=SHA256) == DATA
    assert faulty_s3.struck == [("flip", "PUT"), ("flip", "GET")]


def test_bytes_that_always_change_are_refused(
    alone: S3Objects, straight: S3Objects, faulty_s3: Any
) -> None:
    faulty_s3.fail("flip", "PUT", times=FOR_EVER)
    with pytest.raises(TransientStorageError, match="did not get what was sent") as caught:
        alone.put(URI, DATA)
    assert_a_line(caught.value, faulty_s3.endpoint_url)
    assert straight.find(URI) is None
    straight.put(URI, DATA)
    faulty_s3.fail("flip", "GET", times=FOR_EVER)
    with pytest.raises(ChecksumMismatchError, match="restore it from a backup"):
        alone.get(URI, sha256=SHA256)


def test_a_lost_acknowledgement_finds_its_own_bytes(
    objects: S3Objects, straight: S3Objects, faulty_s3: Any
) -> None:
    """The second try is refused, for something is there, and that is what the first has put."""
    faulty_s3.fail("lost", "PUT")
    objects.put(URI, DATA)
    assert [verb for verb, _ in faulty_s3.asked] == ["PUT", "PUT", "GET"]
    assert straight.sha256(URI) == SHA256


def test_another_s_bytes_are_replaced_through_the_same_faults(
    objects: S3Objects, straight: S3Objects, faulty_s3: Any
) -> None:
    straight.put(URI, b"another's")
    faulty_s3.fail("lost", "PUT", times=2)
    faulty_s3.fail("cut", "GET")
    objects.put(URI, DATA)
    assert straight.sha256(URI) == SHA256


def test_an_upload_that_is_cut_off_is_not_to_be_seen(
    alone: S3Objects, straight: S3Objects, faulty_s3: Any
) -> None:
    faulty_s3.fail("cut upload", "PUT", times=FOR_EVER)
    with pytest.raises(TransientStorageError):
        alone.put(URI, DATA)
    assert list(straight.below("models")) == []


@pytest.mark.parametrize("kind", [*PASSING, "flip"])
def test_an_image_is_read_whole_or_not_at_all(
    straight: S3Objects, faulty_s3: Any, kind: str
) -> None:
    straight.put(URI, DATA)
    setting = "images.endpoint"
    config = S3Config(endpoint_url=faulty_s3.endpoint_url, read_timeout_s=0.31, setting=setting)
    reader = S3Reader(config=config, max_bytes=len(DATA))
    faulty_s3.fail(kind, "GET")
    assert reader.read(straight.address(URI)) == DATA
    assert faulty_s3.struck == [(kind, "GET")]


def test_images_name_the_setting_of_their_own_server(straight: S3Objects, faulty_s3: Any) -> None:
    setting = "images.endpoint"
    config = S3Config(endpoint_url=faulty_s3.endpoint_url, read_timeout_s=0.32, setting=setting)
    faulty_s3.fail("reset", "GET", times=FOR_EVER)
    with pytest.raises(TransientStorageError, match=r"check images\.endpoint and the network"):
        S3Reader(config=config, max_bytes=len(DATA)).read(straight.address(URI))


def assert_a_line(error: StorageError, endpoint_url: str) -> None:
    assert "\n" not in str(error)
    assert str(error).startswith(f"s3://{BUCKET}/")
    assert endpoint_url in str(error)
