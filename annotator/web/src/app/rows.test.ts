import { describe, expect, it } from "vitest";

import { fromBitmap } from "../core/mask";
import { encodeRle } from "../core/rle";
import type { Proposal } from "./messages";
import {
  asked,
  byCertainty,
  namesOf,
  nextProposal,
  NO_FILTER,
  passes,
  rowsOf,
  shownOf,
} from "./rows";
import { act, begin, NOTHING } from "./state";

const square = (side: number) =>
  encodeRle(
    fromBitmap(
      Uint8Array.from({ length: 400 }, (_, at) => Number(at % 20 < side && at / 20 < side)),
      20,
      20,
    ),
  );

const proposal = (proposal_id: string, predicted_iou: number, side: number): Proposal => ({
  proposal_id,
  segmentation: square(side),
  bbox: [0, 0, side, side],
  area: side * side,
  predicted_iou,
  stability_score: 0.9,
  point_coords: [],
});

const ORDERED = byCertainty({
  proposals: [proposal("b", 0.9, 4), proposal("a", 0.7, 9), proposal("c", 0.95, 2)],
});

describe("rows", () => {
  it("go from the least to the most certain", () => {
    expect(rowsOf(ORDERED, NOTHING).map(({ id, state }) => [id, state])).toEqual([
      ["a", "undecided"],
      ["b", "undecided"],
      ["c", "undecided"],
    ]);
  });

  it("are walked in order, round and round, those first that wait", () => {
    const rows = rowsOf(ORDERED, NOTHING);
    expect(nextProposal(rows, null, 1)?.id).toBe("a");
    expect(nextProposal(rows, "a", 1)?.id).toBe("b");
    expect(nextProposal(rows, "c", 1)?.id).toBe("a");
    expect(nextProposal(rows, null, -1)?.id).toBe("c");
    expect(nextProposal(rows, "a", -1)?.id).toBe("c");
    const { present } = act(begin(), { kind: "decide", ids: ["b"], action: "accepted" });
    expect(nextProposal(rowsOf(ORDERED, present), "a", 1)?.id).toBe("c");
    const all = act(begin(), { kind: "decide", ids: ["a", "b", "c"], action: "accepted" }).present;
    expect(nextProposal(rowsOf(ORDERED, all), "a", 1)?.id).toBe("b");
    expect(nextProposal([], null, 1)).toBeNull();
  });

  it("show what is suggested until somebody says what it is", () => {
    const suggestion = { category: "mug", score: 0.834 };
    const rows = (answer = NOTHING) =>
      rowsOf([{ ...proposal("a", 0.7, 9), suggestion }, proposal("b", 0.9, 4)], answer);
    expect(rows().map((row) => [row.category, row.suggestion])).toEqual([
      [null, suggestion],
      [null, null],
    ]);
    expect(asked(suggestion)).toBe("mug 83 %?");
    expect(namesOf(rows())).toEqual({ a: "mug" });
    const accepted = act(begin(), { kind: "decide", ids: ["a", "b"], action: "accepted" }).present;
    expect(rows(accepted)[0]!.suggestion).toEqual(suggestion);
    const other = act(begin(), { kind: "name", id: "a", category: "bowl" }).present;
    expect(rows(other).map((row) => [row.category, row.suggestion])[0]).toEqual(["bowl", null]);
  });

  it("are painted with the smallest on top, without what was refused or is in the making", () => {
    const { present } = act(begin(), { kind: "decide", ids: ["b"], action: "rejected" });
    const rows = rowsOf(ORDERED, present);
    expect(shownOf(rows, NO_FILTER, null).map(({ id }) => id)).toEqual(["a", "c"]);
    expect(shownOf(rows, NO_FILTER, "a").map(({ id }) => id)).toEqual(["c"]);
  });

  it("pass a filter by certainty, size and state", () => {
    const rows = rowsOf(
      ORDERED,
      act(begin(), { kind: "decide", ids: ["c"], action: "accepted" }).present,
    );
    const passing = (filter: Partial<typeof NO_FILTER>) =>
      rows.filter((row) => passes(row, { ...NO_FILTER, ...filter })).map(({ id }) => id);
    expect(passing({ minIou: 0.8 })).toEqual(["b", "c"]);
    expect(passing({ minArea: 16 })).toEqual(["a", "b"]);
    expect(passing({ undecidedOnly: true })).toEqual(["a", "b"]);
  });
});
