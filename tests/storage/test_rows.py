"""Rows know their table; names are made of content."""

from itertools import combinations

from storage.rows import ROWS, SuppressionRow, mask_id, utcnow


def test_each_table_has_one_class() -> None:
    tables = [row.table for row in ROWS]
    assert sorted(tables) == sorted(set(tables))


def test_a_row_as_a_dictionary_has_the_columns_in_order() -> None:
    row = SuppressionRow(mask_id="a", by_mask_id="b", iou=0.75, run_id="r")
    assert list(row.to_dict().items()) == [
        ("mask_id", "a"),
        ("by_mask_id", "b"),
        ("iou", 0.75),
        ("run_id", "r"),
    ]


def test_different_parts_give_different_names() -> None:
    parts = [("a", "b"), ("ab",), ("a", "", "b"), ("a,b",), ('a","b',), ("a", "b", ""), ("b", "a")]
    for one, other in combinations(parts, 2):
        assert mask_id(*one) != mask_id(*other)
    assert mask_id("a", "b") == mask_id("a", "b")
    assert len(mask_id("a")) == 32


def test_times_carry_no_zone() -> None:
    assert utcnow().tzinfo is None
