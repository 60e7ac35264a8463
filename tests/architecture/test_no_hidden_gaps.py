"""In CI a test that could not run for want of a browser or a package is a failure, not a skip."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

TESTS = """
import pytest

@pytest.mark.browser
def test_browser():
    pytest.skip("no browser")

@pytest.mark.data
def test_package():
    pytest.skip("no package")

@pytest.mark.data
def test_images(data_dir):
    raise AssertionError("there are none")

def test_other():
    pytest.skip("not on this platform")

@pytest.mark.xfail(strict=True)
@pytest.mark.browser
def test_known():
    raise AssertionError("known")
"""


def run_tests(folder: Path, text: str, **environment: str) -> str:
    shutil.copy(PROJECT / "tests" / "conftest.py", folder)
    (folder / "test_gaps.py").write_text(text, encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", PROJECT / "pyproject.toml", "-q", folder],
        capture_output=True,
        text=True,
        env={**inherited, "MASKLOOP_DATA": str(folder / "nowhere"), **environment},
        check=False,
    )
    return result.stdout


@pytest.mark.parametrize(
    ("environment", "summary"),
    [
        pytest.param({}, "4 skipped, 1 xfailed", id="at home they are skipped"),
        pytest.param({"CI": "true"}, "2 failed, 2 skipped, 1 xfailed", id="in CI two fail"),
    ],
)
def test_skips(tmp_path: Path, environment: dict[str, str], summary: str) -> None:
    assert summary in run_tests(tmp_path, TESTS, **environment)


def test_a_file_that_skips_itself_fails_in_ci(tmp_path: Path) -> None:
    text = "import pytest\npytest.importorskip('no_such_package')\n"
    assert "1 skipped" in run_tests(tmp_path, text)
    assert "1 error" in run_tests(tmp_path, text, CI="true")
