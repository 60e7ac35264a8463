import { describe, expect, it } from "vitest";

import type { Rle } from "../core/types";
import { keptOf, restored, type Draft } from "./drafts";
import type { LoggedClick } from "./messages";
import { act, begin, NOTHING, recent, redo, shown, undo, type Action, type Making } from "./state";

const mask = (number: number): Rle => ({ size: [4, 6], counts: `${number}` });

const click = (x: number): LoggedClick => ({
  x,
  y: 1,
  label: 1,
  at_s: x,
  predicted_iou: 0.5,
  segmentation: mask(x),
});

function making(target: string | null, ...xs: number[]): Making {
  const choices = [7, 8, 9].map((number) => ({
    segmentation: mask(number),
    iou: number / 10,
    token: number,
  }));
  return {
    target,
    seed: [],
    box: null,
    clicks: xs.map(click),
    choices,
    chosen: 0,
    boxed: false,
    drawn: false,
    begun_s: 0,
  };
}

const DRAFT: Draft = {
  item_id: "item",
  lease_token: 1,
  file_name: "a.png",
  annotator: "ada",
  idempotency_key: "0123456789",
  answer: NOTHING,
  seconds: 1,
  opened_at: 0,
  saved_at: 0,
  submission: null,
  lost: false,
};

/** The same numbers for the same seed (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function anyAction(next: () => number): Action {
  const pick = <T>(...items: T[]): T => items[Math.floor(next() * items.length)]!;
  const id = pick("p0", "p1", "p2", "added-1", "added-2");
  return pick<Action>(
    { kind: "decide", ids: [id, pick("p0", "p1")], action: pick("accepted", "rejected") },
    { kind: "confirm", names: { [id]: pick("cell", "mug") } },
    { kind: "found", text: "cell", masks: [{ segmentation: mask(5), iou: 0.5 }] },
    { kind: "make", making: making(pick(null, id), Math.floor(next() * 100)) },
    { kind: "choose", index: Math.floor(next() * 4) },
    { kind: "cancel" },
    { kind: "finish", category: pick(null, "nucleus") },
    { kind: "remove", id },
    { kind: "name", id, category: pick(null, "cell") },
    { kind: "complete", complete: pick(true, false) },
  );
}

describe("history", () => {
  it.each([1, 2, 3, 4, 5])(
    "undoes everything to the start and redoes it to the end (%i)",
    (seed) => {
      const next = random(seed);
      let history = begin();
      const seen = [history.present];
      for (let step = 0; step < 300; step++) {
        const before = history;
        history = act(history, anyAction(next));
        if (history !== before) seen.push(history.present);
      }
      const end = history.present;
      expect(seen.length).toBeGreaterThan(50);
      for (const expected of seen.slice(0, -1).reverse()) {
        history = undo(history);
        expect(history.present).toBe(expected);
      }
      expect(history.present).toEqual(NOTHING);
      expect(undo(history)).toBe(history);
      for (let step = 1; step < seen.length; step++) history = redo(history);
      expect(history.present).toBe(end);
      expect(redo(history)).toBe(history);
    },
  );

  it("is kept for as many steps as there is room for", () => {
    let history = begin();
    for (let step = 0; step < 150; step++) {
      history = act(history, { kind: "name", id: "p0", category: `kind ${step}` });
    }
    for (let step = 0; step < 120; step++) history = undo(history);
    let kept = recent(history);
    expect(kept).toEqual({ ...history, future: history.future.slice(0, 100) });
    expect(kept.past).toHaveLength(30);
    expect(redo(undo(kept)).present).toBe(history.present);

    const ids = Array.from({ length: 1999 }, (_, index) => `p${index}`);
    history = act(history, { kind: "decide", ids, action: "accepted" });
    kept = recent(history);
    expect(kept.past).toHaveLength(10);
    expect(kept.past).toEqual(history.past.slice(-10));
  });

  it("comes back from a draft, without the logits of a page that is gone", () => {
    let history = begin();
    for (const seed of [1, 2, 3]) history = act(history, { kind: "make", making: making("p1", seed) });
    history = undo(act(history, { kind: "finish", category: null }));
    const back = restored({ ...DRAFT, ...keptOf(history) });
    expect([back.past.length, back.future.length]).toEqual([3, 1]);
    const tokens = [...back.past, back.present, ...back.future].flatMap(
      ({ making }) => making?.choices.map(({ token }) => token) ?? [],
    );
    expect(tokens.length).toBeGreaterThan(0);
    expect(new Set(tokens)).toEqual(new Set([null]));
    expect(redo(back).present.decisions).toEqual(redo(history).present.decisions);
    expect(restored({ ...DRAFT, answer: history.present })).toMatchObject({ past: [], future: [] });
    expect(restored(null)).toEqual(begin());
  });

  it("forgets what was undone once something else is done", () => {
    let history = act(begin(), { kind: "complete", complete: true });
    history = act(undo(history), { kind: "decide", ids: ["p0"], action: "accepted" });
    expect(redo(history)).toBe(history);
  });

  it("has no step for what changes nothing", () => {
    const history = act(begin(), { kind: "decide", ids: ["p0"], action: "accepted" });
    expect(act(history, { kind: "decide", ids: ["p0"], action: "accepted" })).toBe(history);
    expect(act(history, { kind: "cancel" })).toBe(history);
    expect(act(history, { kind: "remove", id: "added-9" })).toBe(history);
  });
});

describe("a mask in the making", () => {
  it("becomes a new mask with its clicks and category", () => {
    const made = act(begin(), { kind: "make", making: making(null, 1, 2) });
    const { present } = act(made, { kind: "finish", category: "nucleus" });
    expect(present.making).toBeNull();
    expect(present.added).toEqual([
      { id: "added-1", segmentation: mask(7), clicks: [click(1), click(2)], box: null, drawn: false },
    ]);
    expect(present.categories).toEqual({ "added-1": "nucleus" });
  });

  it("becomes an edited proposal, which accepting again leaves as it is", () => {
    let history = act(begin(), { kind: "make", making: making("p1", 3) });
    history = act(history, { kind: "finish", category: null });
    expect(history.present.decisions["p1"]).toMatchObject({
      action: "edited",
      segmentation: mask(7),
    });
    expect(act(history, { kind: "decide", ids: ["p1"], action: "accepted" })).toBe(history);
    const rejected = act(history, { kind: "decide", ids: ["p1"], action: "rejected" }).present;
    expect(rejected.decisions["p1"]).toEqual({ action: "rejected", clicks: [click(3)] });
  });

  it("keeps the last click with the mask that was chosen", () => {
    const made = act(begin(), { kind: "make", making: making(null, 1, 2) });
    const { present } = act(made, { kind: "choose", index: 2 });
    expect(shown(present.making!)?.segmentation).toEqual(mask(9));
    expect(present.making!.clicks).toEqual([
      click(1),
      { ...click(2), predicted_iou: 0.9, segmentation: mask(9) },
    ]);
  });

  it("goes with the added mask that it corrects", () => {
    let history = act(begin(), { kind: "make", making: making(null, 1) });
    history = act(history, { kind: "finish", category: null });
    history = act(history, { kind: "make", making: making("added-1", 1, 2) });
    expect(act(history, { kind: "remove", id: "added-1" }).present).toMatchObject({
      added: [],
      making: null,
    });
    const { present } = act(history, { kind: "finish", category: null });
    expect(present.added).toHaveLength(1);
    expect(present.added[0]).toMatchObject({ id: "added-1", clicks: [click(1), click(2)] });
  });

  it("keeps its own category where another is the default", () => {
    let history = act(begin(), { kind: "name", id: "p1", category: "debris" });
    history = act(history, {
      kind: "decide",
      ids: ["p0", "p1"],
      action: "accepted",
      category: "nucleus",
    });
    expect(history.present.categories).toEqual({ p0: "nucleus", p1: "debris" });
    expect(act(history, { kind: "name", id: "p0", category: null }).present.categories).toEqual({
      p1: "debris",
    });
  });

  it("is named by a suggestion only where somebody confirms that, in one step", () => {
    let history = act(begin(), { kind: "decide", ids: ["p0"], action: "accepted" });
    expect(history.present.categories).toEqual({});
    const before = history;
    history = act(history, { kind: "confirm", names: { p0: "mug", p1: "ball" } });
    expect(history.present.decisions).toEqual({
      p0: { action: "accepted" },
      p1: { action: "accepted" },
    });
    expect(history.present.categories).toEqual({ p0: "mug", p1: "ball" });
    expect(act(history, { kind: "confirm", names: { p0: "mug" } })).toBe(history);
    expect(undo(history).present).toBe(before.present);
  });

  it("keeps its correction when its name is confirmed", () => {
    let history = act(begin(), { kind: "make", making: making("p1", 3) });
    history = act(history, { kind: "finish", category: null });
    const { present } = act(history, { kind: "confirm", names: { p1: "mug" } });
    expect(present.decisions["p1"]).toEqual(history.present.decisions["p1"]);
    expect(present.categories).toEqual({ p1: "mug" });
  });

  it("found by a text waits for a decision as proposals do", () => {
    const masks = [1, 2, 3].map((number) => ({ segmentation: mask(number), iou: number / 4 }));
    let history = act(begin(), { kind: "found", text: "red mug", masks });
    expect(history.present.added.map(({ id, found }) => [id, found])).toEqual([
      ["added-1", { text: "red mug", iou: 0.25, isOpen: true }],
      ["added-2", { text: "red mug", iou: 0.5, isOpen: true }],
      ["added-3", { text: "red mug", iou: 0.75, isOpen: true }],
    ]);
    const found = history;
    const accept = { kind: "decide", ids: ["added-1", "p0"], action: "accepted" } as const;
    history = act(history, { ...accept, category: "mug" });
    history = act(history, { kind: "decide", ids: ["added-2"], action: "rejected" });
    expect(history.present.added.map(({ id, found }) => [id, found!.isOpen])).toEqual([
      ["added-1", false],
      ["added-3", true],
    ]);
    expect(history.present.decisions).toEqual({ p0: { action: "accepted" } });
    expect(history.present.categories).toEqual({ "added-1": "mug", p0: "mug" });
    expect(undo(undo(history)).present).toBe(found.present);
    // A correction is the person's own work.
    history = act(history, { kind: "make", making: making("added-3", 5) });
    history = act(history, { kind: "finish", category: null });
    expect(history.present.added[1]).not.toHaveProperty("found");
    expect(act(begin(), { kind: "found", text: "nothing", masks: [] }).present).toBe(NOTHING);
  });

  it("never gives two masks one name", () => {
    let history = begin();
    for (const _ of [1, 2]) {
      history = act(history, { kind: "make", making: making(null, 1) });
      history = act(history, { kind: "finish", category: null });
    }
    history = act(history, { kind: "remove", id: "added-1" });
    history = act(history, { kind: "make", making: making(null, 1) });
    history = act(history, { kind: "finish", category: null });
    expect(history.present.added.map(({ id }) => id)).toEqual(["added-2", "added-3"]);
  });
});
