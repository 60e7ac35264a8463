"""The engine computes with arrays and tensors alone: servers and stores need not be installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
HERE = Path(__file__).parent
QUICK = "tests/engine/test_rle.py"

IMPORT_ALL = """
import absent_packages, importlib, pkgutil, engine
names = [module.name for module in pkgutil.walk_packages(engine.__path__, "engine.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def run_without_packages(*command: str) -> subprocess.CompletedProcess[str]:
    """Run `python COMMAND` in the project, with `absent_packages` to be had."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        check=False,
    )


@pytest.mark.parametrize("package", ["ray", "prefect", "duckdb", "boto3", "pyarrow.parquet"])
def test_the_packages_really_are_out_of_reach(package: str) -> None:
    result = run_without_packages("-c", f"import absent_packages, {package}")
    assert f"ModuleNotFoundError: No module named '{package.partition('.')[0]}'" in result.stderr


def test_every_module_of_the_engine_imports() -> None:
    result = run_without_packages("-c", IMPORT_ALL)
    assert result.returncode == 0, result.stderr
    expected = [path for path in (PROJECT / "engine").rglob("*.py") if path.stem != "__init__"]
    assert int(result.stdout) >= len(expected)


def test_its_tests_need_them_no_more_than_it_does() -> None:
    # One file, whoever runs pytest; `make test` runs all of them so (infra/test.sh).
    command = ("-m", "pytest", "-p", "absent_packages", "-q", "--no-header", QUICK)
    result = run_without_packages(*command)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
