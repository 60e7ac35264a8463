"""The page answers prompts as the server does, from the same embeddings."""

from collections.abc import Callable
from pathlib import Path


def test_the_page_answers_as_the_server(
    drawn_item: Path, run_vitest: Callable[[str, Path], None]
) -> None:
    run_vitest("src/worker/answers.golden.ts", drawn_item)
