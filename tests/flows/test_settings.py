"""`maskloop.toml`: what it may say, and where a workspace is found."""

import re
from pathlib import Path

import pytest

from flows import settings
from flows import workspace as workspaces
from flows.errors import UsageError
from flows.images.remote import remote_images
from flows.recipes import RECIPES
from flows.settings import WORKSPACE_VERSION, Settings, find_root, read_settings
from flows.settings_template import TEMPLATE
from storage.s3.config import S3Config


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / settings.FILE_NAME).write_text(TEMPLATE.format(version=WORKSPACE_VERSION))
    return tmp_path


def test_a_new_workspace_has_the_defaults_but_for_schedules(root: Path) -> None:
    found = read_settings(root)
    assert found.workers == Settings().workers
    assert found.images == Settings().images
    assert found.schedules.merge == "*/10 * * * *"


def test_what_is_left_out_keeps_its_default(root: Path) -> None:
    (root / settings.FILE_NAME).write_text('[workers]\nkind = "local"\ntimeout_s = 5\n')
    found = read_settings(root)
    assert (found.workers.kind, found.workers.timeout_s, found.workers.count) == ("local", 5.0, 0)
    assert found.recipe == "nano"


def test_lists_of_words_are_read(root: Path) -> None:
    (root / settings.FILE_NAME).write_text(
        '[project]\ncategories = ["cell", "dé bris"]\n'
        '[annotator]\nallowed_hosts = ["labels.example", "[2001:db8::1]"]\n'
    )
    found = read_settings(root)
    assert found.project.categories == ("cell", "dé bris")
    assert found.annotator.allowed_hosts == ("labels.example", "[2001:db8::1]")


WRONG = {
    "broken": ("version = ", "not a TOML file"),
    "newer": ("version = 2", "version: a workspace of version 2.*install a newer maskloop"),
    "version 0": ("version = 0", "version: must be from 1 to 1"),
    "version a word": ('version = "1"', "version: must be int, but got '1'"),
    "unknown setting": ("colour = 1", "colour: unknown setting; expected one of annotator, "),
    "unknown in a table": ("[workers]\nkinds = 1", r"workers\.kinds: unknown setting"),
    "no table": ("workers = 3", r"workers: must be a table \[workers\], but got 3"),
    "no choice": ('[workers]\nkind = "gpu"', r"workers\.kind: must be one of \('ray', 'local'\)"),
    "not a number": ('[annotator]\nport = "x"', r"annotator\.port: must be int, but got 'x'"),
    "true is no number": ("[annotator]\nport = true", r"annotator\.port: must be int"),
    "too large": ("[annotator]\nport = 70000", r"annotator\.port: must be from 1 to 65535"),
    "too small": ("[workers]\ncount = -1", r"workers\.count: must be from 0 to 1024, but got -1"),
    "cron of four fields": (
        '[schedules]\nmerge = "*/10 * * *"',
        r"schedules\.merge: must be a cron line such as '0 2 \* \* \*', or empty, but got "
        r"'\*/10 \* \* \*' \(not five fields\)",
    ),
    "cron with seconds": ('[schedules]\nloop = "0 0 2 * * *"', r"schedules\.loop: must be a cron"),
    "cron out of range": ('[schedules]\ntrain = "0 25 * * *"', r"schedules\.train: .*\(bad hour\)"),
    "cron in words": ('[schedules]\nassist = "daily"', r"schedules\.assist: must be a cron line"),
    "a device of another make": (
        '[model]\ndevice = "mps"',
        r"model\.device: must be \"auto\", \"cpu\", \"cuda\" or \"cuda:N\", but got 'mps'",
    ),
    "a queue elsewhere": (
        '[queue]\nurl = "mysql://u:secret@h/d"',
        r"queue\.url: must be postgresql",
    ),
    "another precision": ('[model]\nprecision = "half"', r"model\.precision: must be .*bfloat16"),
    "categories that are one word": (
        '[project]\ncategories = "cell"',
        r"project\.categories: must be a list of words, but got 'cell'",
    ),
    "a category that is a number": ("[project]\ncategories = [1]", "must be a list of words"),
    "a category twice": (
        '[project]\ncategories = ["cell", "cell"]',
        r"project\.categories: must be different names",
    ),
    "a category of nothing": (
        '[project]\ncategories = [" "]',
        r"project\.categories: must be 1 to 200 printable characters each",
    ),
    "no address": ('[annotator]\nhost = ""', r"annotator\.host: must be an address such as"),
    "an allowed host with a port": (
        '[annotator]\nallowed_hosts = ["labels.example:80"]',
        r"annotator\.allowed_hosts: must be names without port.*'labels\.example:80'",
    ),
    "no way to choose": ('[assist]\nchoose = "best"', r"assist\.choose: must be one of .*coverage"),
    "a promise of everything": ("[assist]\npromise = 1.0", r"assist\.promise: must be from 0 to"),
    "a view of masks that there is not": (
        '[clip]\nviews = ["tight", "wide"]',
        r"clip\.views: must be one or more of .*'attention'.*, each once, but got .*'wide'",
    ),
    "no view of masks": ("[clip]\nviews = []", r"clip\.views: must be one or more of"),
    "a view of masks twice": (
        '[clip]\nviews = ["blur", "blur"]',
        r"clip\.views: must be .* each once",
    ),
    "an endpoint with a secret": (
        '[images]\nendpoint = "https://key:secret@s3.example"',
        r"images\.endpoint: must be http",
    ),
    "a private host with a port": (
        '[images]\nprivate_hosts = ["images.lan:8443"]',
        r"images\.private_hosts: must be names in small letters, without port",
    ),
    "https as a word": ('[images]\nallow_https = "yes"', r"images\.allow_https: must be bool"),
    "nan": ("[annotator]\ndeadline_h = nan", r"annotator\.deadline_h: must be from"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_named(root: Path, text: str, message: str) -> None:
    path = root / settings.FILE_NAME
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_settings(root)
    assert str(caught.value).startswith(str(path))


def test_how_people_are_asked_changes_the_recipe_only_where_it_is_set(root: Path) -> None:
    path = root / settings.FILE_NAME
    path.write_text('[assist]\npropose = "detector"\npromise = 0.9')
    changes = settings.read_settings(root).assist.changes()
    assert changes == {"propose": "detector", "promise": 0.9}
    asked = RECIPES["nano"].asking(changes).assist
    assert (asked.propose, asked.promise) == ("detector", 0.9)
    assert asked.choose == RECIPES["nano"].assist.choose


def test_images_are_in_the_stores_s3_unless_they_have_their_own(root: Path) -> None:
    def s3() -> object:
        found = read_settings(root)
        return remote_images(found.images, found.store, root).s3

    path = root / settings.FILE_NAME
    path.write_text('[store]\nendpoint = "http://10.0.0.1:8333"\nprofile = "lab"')
    assert s3() == S3Config(endpoint_url="http://10.0.0.1:8333", profile="lab")
    path.write_text(path.read_text() + '\n[images]\nregion = "eu-west-1"')
    assert s3() == S3Config(region="eu-west-1")


def test_a_file_that_is_not_text_is_no_toml(root: Path) -> None:
    (root / settings.FILE_NAME).write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not a TOML file"):
        read_settings(root)


def test_a_workspace_is_found_upward_or_by_the_environment(root: Path, tmp_path: Path) -> None:
    deep = root / "a" / "b"
    deep.mkdir(parents=True)
    assert find_root(deep, {}) == root.resolve()
    assert find_root(Path("/"), {"MASKLOOP_HOME": str(root)}) == root.resolve()
    assert find_root(deep, {"MASKLOOP_HOME": ""}) == root.resolve()
    with pytest.raises(UsageError, match=r"MASKLOOP_HOME: .* has no maskloop\.toml; run: masklo"):
        find_root(deep, {"MASKLOOP_HOME": str(tmp_path / "nowhere")})


def test_nowhere_is_no_workspace(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no workspace: .*run: maskloop init, or set MASKLOOP_HO"):
        find_root(tmp_path, {})


def test_an_interrupted_init_can_be_run_again_a_finished_one_not(empty_root: Path) -> None:
    with pytest.raises(UsageError, match="a workspace already; nothing to do"):
        workspaces.create(empty_root)


def test_init_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    made = workspaces.create(tmp_path / "new")
    (made.root / settings.FILE_NAME).unlink()
    assert workspaces.create(made.root).lake.snapshot() == made.lake.snapshot()


def test_every_setting_is_in_the_template(root: Path) -> None:
    import tomllib
    from dataclasses import fields, is_dataclass

    written = tomllib.loads((root / settings.FILE_NAME).read_text())
    for field in fields(Settings):
        value = getattr(Settings(), field.name)
        assert field.name in written
        if is_dataclass(value):
            assert {item.name for item in fields(value)} == set(written[field.name])


def test_the_template_names_every_recipe(root: Path) -> None:
    text = (root / settings.FILE_NAME).read_text()
    comment = re.search(r"^recipe = .*\n# (.*)$", text, re.MULTILINE)
    assert comment is not None
    assert comment[1].split(", ") == list(RECIPES)
