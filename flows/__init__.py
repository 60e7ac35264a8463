"""The stages as Prefect flows, and the command line."""

import engine  # noqa: F401 - before torch, to whose threads it says how to wait
