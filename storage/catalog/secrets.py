"""What lets DuckDB into S3 and Postgres: in its memory, never in a file, a setting or an error.

Credentials that expire are renewed by boto3, and so a secret is made anew when they have changed.
"""

from duckdb import DuckDBPyConnection

from storage.catalog.place import Place
from storage.catalog.postgres_catalog import SECRET


def keep(
    connection: DuckDBPyConnection, place: Place, known: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Make the secrets that `place` needs now, unless they are the `known` ones; returns them."""
    wanted = _statements(place)
    if wanted != known:
        for statement in wanted:
            connection.execute(statement)
    return wanted


def _statements(place: Place) -> tuple[str, ...]:
    statements = []
    password = place.database.secret()
    if password is not None:
        statements.append(
            f"CREATE OR REPLACE SECRET {SECRET} (TYPE postgres, PASSWORD {quoted(password)})"
        )
    if place.in_s3:
        statements.append(_s3_secret(place))
    return tuple(statements)


def _s3_secret(place: Place) -> str:
    # boto3 takes most of a second to load, which a store in a folder does not pay.
    from storage.s3 import client as s3

    found = s3.credentials(place.s3)
    options = {
        "KEY_ID": quoted(found.key_id),
        "SECRET": quoted(found.secret),
        "REGION": quoted(s3.region(place.s3)),
        "SCOPE": quoted(place.data),
    }
    if found.token:
        options["SESSION_TOKEN"] = quoted(found.token)
    if address := s3.endpoint(place.s3):
        scheme, _, host = address.partition("://")
        options |= {
            "ENDPOINT": quoted(host),
            "URL_STYLE": "'path'",
            "USE_SSL": "true" if scheme == "https" else "false",
        }
    given = ", ".join(f"{name} {value}" for name, value in options.items())
    return f"CREATE OR REPLACE SECRET maskloop_data (TYPE s3, {given})"


def quoted(text: object) -> str:
    """A text as SQL writes it."""
    return "'" + str(text).replace("'", "''") + "'"
