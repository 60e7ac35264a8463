import { describe, expect, it } from "vitest";

import { lighter, submissionOf } from "./answer";
import type { Proposal } from "./messages";
import { NOTHING, type Answer } from "./state";

const MASK = { size: [4, 6] as [number, number], counts: "4220<" };
const CLICK = { x: 1.5, y: 1, label: 1 as const, at_s: 2, predicted_iou: 0.9, segmentation: MASK };

const proposal = (proposal_id: string): Proposal => ({
  proposal_id,
  segmentation: MASK,
  bbox: [1, 0, 2, 2],
  area: 4,
  predicted_iou: 0.9,
  stability_score: 0.9,
  point_coords: [],
});

const PROPOSALS = ["p0", "p1", "p2"].map(proposal);
const ANSWER: Answer = {
  ...NOTHING,
  complete: true,
  decisions: {
    p0: { action: "accepted" },
    p1: { action: "rejected", clicks: [] },
    p2: { action: "edited", segmentation: MASK, clicks: [CLICK], box: null, drawn: true },
  },
  added: [
    { id: "added-1", segmentation: MASK, clicks: [CLICK], box: null, drawn: false },
    { id: "added-2", segmentation: MASK, clicks: [], box: [1, 0, 3, 2], drawn: false },
  ],
  categories: { "added-1": "nucleus", p0: "debris", p1: "nucleus" },
};

describe("submissionOf", () => {
  it("says what annotator/submission.py reads, field by field", () => {
    expect(submissionOf(PROPOSALS, ANSWER, 12.34567)).toEqual({
      decisions: [
        { proposal_id: "p0", action: "accepted", category: "debris" },
        { proposal_id: "p1", action: "rejected", clicks: [] },
        { proposal_id: "p2", action: "edited", segmentation: MASK, clicks: [CLICK], drawn: true },
      ],
      added: [
        { segmentation: MASK, clicks: [CLICK], drawn: false, category: "nucleus" },
        { segmentation: MASK, clicks: [], box: [1, 0, 3, 2], drawn: false },
      ],
      complete: true,
      seconds: 12.346,
    });
  });

  it("refuses to leave out a proposal", () => {
    const answer = { ...ANSWER, decisions: {} };
    expect(() => submissionOf(PROPOSALS, answer, 0)).toThrow("must be decided");
  });

  it("can leave out the masks of clicks, but no click", () => {
    const light = lighter(submissionOf(PROPOSALS, ANSWER, 1));
    const { segmentation: _, ...bare } = CLICK;
    expect(light.decisions[2]!.clicks).toEqual([bare]);
    expect(light.added[0]!.clicks).toEqual([bare]);
    expect(light.added[0]!.segmentation).toEqual(MASK);
  });
});

it("says by which text a mask was found, and leaves out what nobody has decided", () => {
  const bare = { segmentation: MASK, clicks: [], box: null, drawn: false };
  const found = { text: "red mug", iou: 0.75, isOpen: false };
  const added = [
    { ...bare, id: "added-1", found },
    { ...bare, id: "added-2", found: { ...found, isOpen: true } },
  ];
  expect(submissionOf([], { ...NOTHING, added }, 1).added).toEqual([
    { segmentation: MASK, clicks: [], drawn: false, text: "red mug", predicted_iou: 0.75 },
  ]);
});
