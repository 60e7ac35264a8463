"""The most similar vectors, and how well pairs find each other, are what plain sorting says."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.clip import nearest as module
from engine.clip.nearest import Block, nearest, packed
from engine.clip.retrieval import recall_at

DIM = 12


def unit_vectors(count: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    found: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def plain(queries: NDArray[np.float32], rows: Block, k: int) -> NDArray[np.int64]:
    similar = queries.astype(np.float64) @ rows.astype(np.float64).T
    found: NDArray[np.int64] = np.argsort(-similar, axis=1, kind="stable")[:, :k]
    return found


@pytest.mark.parametrize("sizes", [(5000,), (1, 2047, 2048, 2049), (0, 3, 900)])
@pytest.mark.parametrize("k", [1, 7, 200])
def test_the_nearest_are_those_of_a_plain_argsort(sizes: tuple[int, ...], k: int) -> None:
    blocks = [packed(unit_vectors(size, seed)) for seed, size in enumerate(sizes)]
    assert all(block.dtype == np.float16 for block in blocks)
    queries = unit_vectors(3, 99)
    found = nearest(queries, iter(blocks), k)
    everything = np.concatenate(blocks)
    wanted = plain(queries, everything, k)
    assert np.array_equal(found.rows, wanted)
    similar = queries @ everything.astype(np.float32).T
    np.testing.assert_allclose(
        found.similarities, np.take_along_axis(similar, wanted, axis=1), atol=1e-6
    )


def test_of_equally_similar_rows_the_first_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 4)
    monkeypatch.setattr(module, "_SIMILARITIES_AT_ONCE", 8)
    one, other = np.eye(DIM, dtype=np.float32)[:2]
    block = packed(np.stack([other, one] * 10))
    found = nearest(one[None], [block, block], 15)
    assert found.rows[0].tolist() == list(range(1, 30, 2))
    assert nearest(one[None], [block], 20).rows[0].tolist() == [*range(1, 20, 2), *range(0, 20, 2)]


def test_fewer_rows_than_asked_for_are_all_rows() -> None:
    found = nearest(unit_vectors(2, 0), [packed(unit_vectors(3, 1))], 10)
    assert found.rows.shape == found.similarities.shape == (2, 3)
    assert found.rows.dtype == np.int64
    empty: Iterator[Block] = iter([])
    assert nearest(unit_vectors(2, 0), empty, 10).rows.shape == (2, 0)


def test_no_query_has_no_answer() -> None:
    found = nearest(np.empty((0, DIM), np.float32), [packed(unit_vectors(3, 1))], 2)
    assert found.rows.shape == (0, 2)


@pytest.mark.parametrize(
    ("width", "k", "message"),
    [(DIM + 1, 1, r"blocks: must be \(N, 12\) as the queries"), (DIM, 0, "k: must be at least 1")],
)
def test_what_cannot_be_compared_is_refused(width: int, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest(unit_vectors(1, 0), [np.zeros((2, width), np.float16)], k)


def test_recall_is_that_of_a_plain_sort_both_ways() -> None:
    images = unit_vectors(60, 0)
    texts = images + 1.5 * unit_vectors(60, 1)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    found = recall_at(images, texts, (1, 5))
    for recall, queries, answers in (
        (found.texts_of_images, images, texts),
        (found.images_of_texts, texts, images),
    ):
        for k in (1, 5):
            hits = [own in np.argsort(-(answers @ query))[:k] for own, query in enumerate(queries)]
            assert recall[k] == pytest.approx(np.mean(hits))
            assert 0 < recall[k] < 1


def test_equal_texts_are_right_answers_to_each_other() -> None:
    images = np.eye(DIM, dtype=np.float32)[[0, 1, 2]]
    texts = np.eye(DIM, dtype=np.float32)[[1, 0, 2]]
    assert recall_at(images, texts, (1,)).texts_of_images == {1: pytest.approx(1 / 3)}
    alike = recall_at(images, texts, (1,), alike=np.array([7, 7, 8]))
    assert alike.texts_of_images == alike.images_of_texts == {1: 1.0}


def test_a_model_that_finds_all_the_same_finds_nothing() -> None:
    same = np.ones((20, DIM), np.float32) / np.sqrt(DIM).astype(np.float32)
    found = recall_at(same, same, (1, 10))
    assert found.texts_of_images == found.images_of_texts == {1: 0.0, 10: 0.0}


@pytest.mark.parametrize(
    ("images", "texts", "ks", "message"),
    [(2, 3, (1,), "must be as many"), (0, 0, (1,), "at least 1"), (2, 2, (0,), "ks: must be")],
)
def test_recall_of_nothing_is_refused(
    images: int, texts: int, ks: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        recall_at(unit_vectors(images, 0), unit_vectors(texts, 1), ks)
