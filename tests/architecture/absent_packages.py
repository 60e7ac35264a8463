"""A pytest plugin (`-p absent_packages`) that makes packages look as if they were not installed."""

import sys

ABSENT = ("ray", "prefect", "duckdb", "boto3", "pyarrow", "sqlalchemy", "fastapi")


class Absent:
    """Refuses to find the packages of ABSENT, with the error that Python itself would raise."""

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


loaded = sorted(set(ABSENT) & set(sys.modules))
if loaded:
    raise RuntimeError(f"imported before they could be hidden: {loaded}")
sys.meta_path.insert(0, Absent())
