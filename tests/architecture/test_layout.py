"""The house stands as docs/architecture.md says: folders, names, sizes, one home per heavy part."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGES = ("flows", "annotator", "engine", "storage")
MAX_MODULE_LINES = 400
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
# Spelled in pieces, so that this file does not find itself.
MARKERS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(work|farm|home|root|Users)/\w")

# Package -> the only folder or modules that may import it.
HOMES = {
    "segment_anything": "engine/model/",
    "timm": "engine/model/",
    "open_clip": "engine/clip/architectures.py",
    "huggingface_hub": "engine/clip/hub.py",
    "onnx": "engine/model/graph/",
    "duckdb": "storage/catalog/",
    "sqlalchemy": "storage/queue/",
    "psycopg": ("storage/queue/postgres.py", "storage/catalog/postgres_catalog.py"),
    "boto3": "storage/s3/",
    "botocore": "storage/s3/",
    "ray": "flows/generation/ray_pools.py",
    "prefect": "flows/orchestration/",
    "fastapi": "annotator/",
    "typer": "flows/cli/",
}


def tracked() -> list[Path]:
    """Every file of the project that git knows or would add."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (PROJECT / name for name in listing.stdout.split("\0") if name)
    return sorted(path for path in paths if path.is_file())


def relative(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def modules() -> list[Path]:
    return [path for name in PACKAGES for path in sorted((PROJECT / name).rglob("*.py"))]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(top-level package, line) of each absolute import, wherever in the module it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0], node.lineno


@pytest.mark.parametrize(
    "folder",
    ["flows", "annotator", "engine", "storage", "infra", "tests", "benchmarks", "docs", ".ci"],
)
def test_each_room_of_the_house_exists(folder: str) -> None:
    assert (PROJECT / folder).is_dir()


def test_no_module_has_a_vague_name() -> None:
    vague = [relative(path) for path in tracked() if path.stem in VAGUE_NAMES]
    assert not vague, f"name a module for its subject: {vague}"


def test_every_package_file_is_empty() -> None:
    # How threads wait must be said before torch is loaded, whatever of the house comes first.
    before_torch = {"engine/__init__.py", "flows/__init__.py"}
    packages = {relative(path): path for path in modules() if path.name == "__init__.py"}
    full = [
        name for name, path in packages.items() if path.read_text() and name not in before_torch
    ]
    assert not full, f"import from the module itself, keep these empty: {full}"


def test_the_page_of_the_house_names_every_room_of_flows() -> None:
    page = (PROJECT / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = [path.parent.name for path in (PROJECT / "flows").glob("*/__init__.py")]
    missing = [room for room in rooms if f"| `{room}/` |" not in page]
    assert len(rooms) > 10
    assert not missing, f"say in docs/architecture.md what these are for: {missing}"


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in modules()}
    missing = [relative(folder) for folder in folders if not (folder / "__init__.py").exists()]
    assert not missing, f"setuptools finds no package without __init__.py: {missing}"


def test_tests_are_not_packages() -> None:
    found = [relative(path) for path in (PROJECT / "tests").rglob("__init__.py")]
    assert not found, f"tests/engine would shadow engine: {found}"


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    sizes = {
        relative(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in tracked()
        if path.suffix == ".py"
    }
    long = {name: lines for name, lines in sizes.items() if lines > MAX_MODULE_LINES}
    assert not long, f"split these: {long}"


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        pytest.param(MARKERS, "finish it or file an issue", id="no marker of unfinished work"),
        pytest.param(MACHINE_PATH, "a path of somebody's machine", id="no path of a machine"),
    ],
)
def test_no_file_contains(pattern: re.Pattern[str], why: str) -> None:
    found = []
    for path in tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # weights and pictures
        found += [
            f"{relative(path)}:{number}: {line.strip()[:80]}"
            for number, line in enumerate(lines, start=1)
            if pattern.search(line)
        ]
    assert not found, f"{why}: {found}"


@pytest.mark.parametrize("package", HOMES)
def test_a_heavy_dependency_has_one_home(package: str) -> None:
    home = HOMES[package]
    elsewhere = [
        f"{relative(path)}:{line}"
        for path in modules()
        for name, line in imports(path)
        if name == package and not relative(path).startswith(home)
    ]
    assert not elsewhere, f"{package} is imported only in {home}: {elsewhere}"


def test_the_import_scan_sees_every_form_of_import(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import ray.data\nfrom prefect import flow\nfrom . import near\n"
        "def late():\n    import boto3 as b, json\n"
    )
    assert list(imports(path)) == [("ray", 1), ("prefect", 2), ("boto3", 5), ("json", 5)]
