"""Images in S3 and at https addresses, through the commands: read in place, checked, missed."""

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.images import image_id
from flows.errors import StageError
from flows.generation.generate import generate_stage
from flows.intake.adding import add_images
from flows.intake.coco_import import ImportOptions, import_coco
from flows.intake.files import Progress
from flows.intake.rows import IntakeReport
from flows.progress import Silent
from flows.recipes import Recipe
from flows.settings import WorkerSettings
from flows.training.train import train_stage
from flows.upkeep.checking import fsck
from flows.workspace import Workspace, open_workspace
from storage.s3.client import client
from storage.s3.config import S3Config

Cli = Callable[..., Any]


def set_images(workspace: Workspace, **values: object) -> None:
    """Change settings of the table [images]."""
    path = workspace.root / "maskloop.toml"
    before, mark, images = path.read_text().partition("[images]")
    lines = [line for line in images.splitlines() if line.split(" ")[0] not in values]
    lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    path.write_text(before + mark + "\n".join(lines) + "\n")


@pytest.fixture
def home(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace, which commands find."""
    monkeypatch.setenv("MASKLOOP_HOME", str(workspace.root))
    return workspace


def reopened(home: Workspace) -> Iterator[Workspace]:
    opened = open_workspace(home.root)
    yield opened
    opened.close()


class Bucket:
    """A bucket of a real server."""

    def __init__(self, endpoint_url: str) -> None:
        self.name = f"b{uuid.uuid4().hex}"
        self._client = client(S3Config(endpoint_url=endpoint_url))
        self._client.create_bucket(Bucket=self.name)

    def put(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=self.name, Key=key, Body=data)

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket=self.name, Key=key)

    def url(self, key: str) -> str:
        return f"s3://{self.name}/{key}"


@pytest.fixture
def bucket(s3_server: Any, home: Workspace, drawn: Any) -> Bucket:
    """Four pictures in `scans/`, one of them deeper; the workspace knows the server."""
    set_images(home, endpoint=s3_server.endpoint_url)
    made = Bucket(s3_server.endpoint_url)
    for name in drawn.names[:3]:
        made.put(f"scans/{name}", (drawn.folder / name).read_bytes())
    made.put("scans/deep/er.png", (drawn.folder / drawn.names[3]).read_bytes())
    made.put("scans/notes.txt", b"no image")
    return made


@pytest.mark.s3
class TestS3:
    def test_images_are_added_once(self, cli: Cli, home: Workspace, bucket: Bucket) -> None:
        said = cli("add", bucket.url("scans"), "--json")
        assert (said.code, json.loads(said.out)["num_new"]) == (0, 4), said.err
        rows = home.lake.rows("SELECT uri, file_name, source FROM images ORDER BY uri")
        assert [row["uri"] for row in rows] == [
            f"source:{bucket.name}-scans/deep/er.png",
            f"source:{bucket.name}-scans/scene-01.png",
            f"source:{bucket.name}-scans/scene-02.png",
            f"source:{bucket.name}-scans/scene-03.png",
        ]
        assert rows[0]["file_name"] == "deep/er.png"
        assert (
            f'"{bucket.name}-scans" = "{bucket.url("scans")}"'
            in (home.root / "sources.toml").read_text()
        )
        again = json.loads(cli("add", bucket.url("scans/"), "--json").out)
        assert (again["num_new"], again["num_known"], again["repeated"]) == (0, 4, True)

    def test_an_import_trains_and_generates_without_a_copy(
        self, cli: Cli, home: Workspace, bucket: Bucket, drawn: Any, recipe: Recipe
    ) -> None:
        for name in drawn.names:
            bucket.put(f"pictures/{name}", (drawn.folder / name).read_bytes())
        said = cli("import", "coco", drawn.truth, "--images", bucket.url("pictures"), "--json")
        assert (said.code, json.loads(said.out)["num_new"]) == (0, 12), said.err
        for opened in reopened(home):
            workers = replace(opened.settings, workers=WorkerSettings(kind="local"))
            here = replace(opened, settings=workers)
            assert train_stage(here, recipe, Silent()).num_images > 0
            assert generate_stage(here, recipe, Silent()).num_dead == 0
            assert fsck(here) == []
        uris = home.lake.rows("SELECT DISTINCT parse_dirname(uri) AS folder FROM images")
        assert uris == [{"folder": f"source:{bucket.name}-pictures"}]

    def test_an_image_that_is_gone_is_named(
        self, cli: Cli, home: Workspace, bucket: Bucket, drawn: Any
    ) -> None:
        set_images(home, cache_gb=0.0)
        assert cli("add", bucket.url("scans")).code == 0
        bucket.remove("scans/scene-01.png")
        name = image_id((drawn.folder / "scene-01.png").read_bytes())
        for opened in reopened(home):
            with pytest.raises(
                StageError,
                match=rf"^{bucket.url('scans/scene-01.png')}: no such object; put it back",
            ):
                opened.pixels(name)

    def test_other_bytes_are_noticed(
        self, cli: Cli, home: Workspace, bucket: Bucket, drawn: Any
    ) -> None:
        set_images(home, cache_gb=0.0)
        assert cli("add", bucket.url("scans")).code == 0
        name = image_id((drawn.folder / "scene-01.png").read_bytes())
        bucket.put("scans/scene-01.png", (drawn.folder / "scene-05.png").read_bytes())
        for opened in reopened(home):
            with pytest.raises(StageError, match=rf"scene-01\.png: its bytes are .*{name}; put"):
                opened.pixels(name)

    def test_adding_that_was_stopped_goes_on(self, home: Workspace, bucket: Bucket) -> None:
        class StoppedError(Exception):
            pass

        def stop(done: int, _total: int) -> None:
            if done == 4:
                raise StoppedError

        for opened in reopened(home):
            with pytest.raises(StoppedError):
                add_images(opened, [bucket.url("scans")], strict=False, progress=stop, batch=3)
            assert len(opened.lake.rows("SELECT * FROM images")) == 3
            # What is in the store need not be there to be known.
            bucket.put("scans/scene-01.png", b"no image any more")
            report = add_images(
                opened, [bucket.url("scans")], strict=False, progress=lambda _d, _t: None, batch=3
            )
            assert (report.num_new, report.num_known, report.problems) == (1, 3, ())
            assert fsck(opened) == []

    def test_with_strict_all_come_or_none(self, cli: Cli, home: Workspace, bucket: Bucket) -> None:
        bucket.put("scans/bad.png", b"no image")
        said = cli("add", bucket.url("scans"), "--strict")
        assert (said.code, said.out) == (2, "")
        assert f"{bucket.url('scans/bad.png')}: not an image" in said.err
        assert home.lake.rows("SELECT * FROM images") == []

    @pytest.mark.parametrize(
        ("place", "words"),
        [
            ("s3://no-such-bucket-there/scans", "there is no such bucket"),
            ("s3://Wrong_Name/scans", "must be s3://BUCKET/PREFIX"),
            ("s3://BUCKET/nothing", "no image there; expected"),
        ],
    )
    def test_a_wrong_place_is_one_line(
        self, cli: Cli, bucket: Bucket, drawn: Any, place: str, words: str
    ) -> None:
        place = place.replace("BUCKET", bucket.name)
        said = cli("add", place)
        assert (said.code, len(said.errors)) == (2, 1)
        assert words in said.err
        if "nothing" not in place:
            said = cli("import", "coco", drawn.truth, "--images", place)
            assert (said.code, len(said.errors)) == (2, 1)
            assert said.err.startswith("error: --images: ")
            assert words in said.err

    def test_without_credentials_the_remedy_is_named(
        self, cli: Cli, home: Workspace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        set_images(home, region="eu-north-1")  # a client of its own
        said = cli("add", bucket.url("scans"))
        assert (said.code, len(said.errors)) == (2, 1)
        assert "no credentials" in said.err
        assert "AWS_ACCESS_KEY_ID" in said.err


@pytest.fixture
def site(https_site: Any, home: Workspace, drawn: Any) -> Any:
    """Three pictures at https addresses, which the workspace may read."""
    set_images(home, allow_https=True, private_hosts=["localhost"], ca_file=str(https_site.ca_file))
    for name in drawn.names[:3]:
        https_site.files[f"/scans/{name}"] = (drawn.folder / name).read_bytes()
    return https_site


@pytest.fixture
def addresses(site: Any, tmp_path: Path) -> Path:
    path = tmp_path / "addresses.txt"
    lines = ["# what we scanned", "", *map(site.url, site.files)]
    path.write_text("\n".join(lines) + "\n")
    return path


class TestHttps:
    def test_a_list_of_addresses_is_added_and_read_from_the_cache(
        self, cli: Cli, home: Workspace, site: Any, addresses: Path
    ) -> None:
        said = cli("add", addresses, "--json")
        assert (said.code, json.loads(said.out)["num_new"]) == (0, 3), said.err
        assert home.lake.rows("SELECT uri, source FROM images ORDER BY uri")[0] == {
            "uri": f"source:localhost-{site.port}/scans/scene-01.png",
            "source": f"localhost:{site.port}",
        }
        assert len(site.asked) == 3
        for opened in reopened(home):
            for path, data in site.files.items():
                assert opened.pixels(image_id(data)).shape == (96, 128, 3), path
        assert len(site.asked) == 3
        assert {path.name for path in (home.root / "cache" / "images").iterdir()} == {
            image_id(data) for data in site.files.values()
        }
        assert json.loads(cli("add", addresses, "--json").out)["repeated"]
        assert len(site.asked) == 3

    def test_what_is_gone_is_left_out_and_named(
        self, cli: Cli, home: Workspace, site: Any, addresses: Path
    ) -> None:
        gone = site.files.pop("/scans/scene-02.png")
        assert gone
        said = cli("add", addresses)
        assert said.code == 0
        assert "2 new images" in said.out
        assert f"{site.url('/scans/scene-02.png')}: HTTP 404" in said.err + said.out
        assert len(home.lake.rows("SELECT * FROM images")) == 2

    def test_a_coco_file_of_images_there(self, cli: Cli, site: Any, drawn: Any) -> None:
        for name in drawn.names:
            site.files[f"/scans/{name}"] = (drawn.folder / name).read_bytes()
        said = cli("import", "coco", drawn.truth, "--images", site.url("/scans"), "--json")
        assert (said.code, json.loads(said.out)["num_new"]) == (0, 12), said.err

    def test_an_import_that_was_stopped_reads_the_others_only(
        self, home: Workspace, site: Any, drawn: Any
    ) -> None:
        for name in drawn.names:
            site.files[f"/scans/{name}"] = (drawn.folder / name).read_bytes()

        class StoppedError(Exception):
            pass

        def stop(done: int, _total: int) -> None:
            if done == 5:
                raise StoppedError

        def bring(opened: Workspace, progress: Progress) -> IntakeReport:
            return import_coco(opened, drawn.truth, site.url("/scans"), ImportOptions(), progress)

        set_images(home, fetch_threads=1)
        for opened in reopened(home):
            with pytest.raises(StoppedError):
                bring(opened, stop)
            assert opened.lake.rows("SELECT * FROM images") == []
            (left,) = (home.root / "cache" / "sightings").iterdir()
            whole = left.read_text()
            # As if it had been killed while it wrote down the last one.
            left.write_text(whole[:-30])
            num_before = len(whole.splitlines()) - 1
            assert 5 <= num_before == len(site.asked) < 12
            report = bring(opened, lambda _done, _total: None)
            assert (report.num_new, report.problems) == (12, ())
            assert len(site.asked) == 12 + 1
            assert list(left.parent.iterdir()) == []
            assert fsck(opened) == []
            labels = opened.lake.rows("SELECT count(*) AS n FROM masks")

        for opened in reopened(home):
            assert bring(opened, lambda _done, _total: None).repeated
            assert opened.lake.rows("SELECT count(*) AS n FROM masks") == labels
        assert len(site.asked) == 12 + 1

    def test_a_list_that_is_refused_is_not_read_twice(
        self, cli: Cli, home: Workspace, site: Any, addresses: Path
    ) -> None:
        site.files["/scans/scene-02.png"] = b"no image"
        assert cli("add", addresses, "--strict").code == 2
        assert len(site.asked) == 3
        set_images(home, cache_gb=0.0)
        said = json.loads(cli("add", addresses, "--json").out)
        assert said["num_new"] == 2
        assert len(site.asked) == 3 + 1, "what is no image is looked at again"

    def test_it_is_off_unless_it_was_allowed(
        self, cli: Cli, home: Workspace, site: Any, addresses: Path, drawn: Any
    ) -> None:
        set_images(home, allow_https=False)
        for arguments in (
            ("add", addresses),
            ("add", site.url("/scans/scene-01.png")),
            ("import", "coco", drawn.truth, "--images", site.url("/scans")),
        ):
            said = cli(*arguments)
            assert (said.code, len(said.errors)) == (2, 1)
            assert "images.allow_https = true" in said.err
        assert site.asked == []

    def test_a_private_host_must_be_named(
        self, cli: Cli, home: Workspace, site: Any, addresses: Path
    ) -> None:
        set_images(home, private_hosts=[])
        said = cli("add", addresses)
        assert said.code == 2
        assert "an address of a private network" in said.err
        assert site.asked == []

    @pytest.mark.parametrize(
        "line", ["http://images.example/a.png", "s3://bucket/a.png", "/etc/passwd", "file:///etc"]
    )
    def test_a_list_holds_nothing_else(
        self, cli: Cli, site: Any, addresses: Path, line: str
    ) -> None:
        addresses.write_text(addresses.read_text() + line + "\n")
        said = cli("add", addresses)
        assert (said.code, len(said.errors)) == (2, 1)
        assert f"{addresses}:6: must begin with https://" in said.err
        assert site.asked == []
