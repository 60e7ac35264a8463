import { describe, expect, it } from "vitest";

import { fromBitmap } from "../core/mask";
import type { Answered, Click, Prompt } from "../core/types";
import type { PredictOptions, Predictor } from "../worker/client";
import { Maker, type Bench } from "./maker";
import { rleOf } from "./shapes";
import type { Making } from "./state";

const answer = (token: number, iou: number): Answered => ({
  mask: fromBitmap(
    Uint8Array.from({ length: 16 }, (_, at) => Number(at <= token % 16)),
    4,
    4,
  ),
  iou,
  token,
});

const CLICK: Click = { x: 1.5, y: 2.5, label: 1 };

/** A maker whose predictor answers when it is told to, and all that it was asked and did. */
function bench() {
  const asked: { prompt: Prompt; options: PredictOptions; give: (answers: Answered[]) => void }[] =
    [];
  const made: Making[] = [];
  const waiting: number[] = [];
  const predictor: Predictor = {
    open: () => Promise.resolve(),
    preload: () => Promise.resolve(),
    predict: (prompt, options) =>
      new Promise((resolve) => asked.push({ prompt, options, give: resolve })),
    close: () => undefined,
  };
  const clock = { now: 1 };
  const hands: Bench = {
    predictor,
    making: () => made.at(-1) ?? null,
    make: (making) => made.push(making),
    elapsed: () => clock.now,
    hovered: () => undefined,
    preview: () => undefined,
    waiting: (clicks) => waiting.push(clicks.length),
    failed: (error) => {
      throw error;
    },
  };
  const maker = new Maker(hands);
  const click = (one: Click) => maker.click(one, async () => maker.fresh());
  return { maker, click, asked, made, waiting, clock };
}

const soon = () => new Promise((resolve) => setTimeout(resolve, 0));

describe("clicks", () => {
  it("asks for three masks of one click, and goes on from the best", async () => {
    const { click, asked, made, clock } = bench();
    const first = click(CLICK);
    await soon();
    expect(asked[0]!.options).toMatchObject({ previous: null, multimask: true, hover: false });
    asked[0]!.give([answer(1, 0.4), answer(2, 0.9), answer(3, 0.7)]);
    await first;
    expect(made.at(-1)).toMatchObject({
      chosen: 1,
      clicks: [{ ...CLICK, at_s: 1, predicted_iou: 0.9 }],
    });
    clock.now = 2;
    const second = click({ ...CLICK, label: 0 });
    clock.now = 9;
    await soon();
    expect(asked[1]!.options).toMatchObject({ previous: 2, multimask: false });
    expect(asked[1]!.prompt.clicks).toEqual([CLICK, { ...CLICK, label: 0 }]);
    asked[1]!.give([answer(4, 0.8)]);
    await second;
    expect(made.at(-1)!.clicks.map(({ at_s }) => at_s)).toEqual([1, 2]);
  });

  it("are answered in their order, each on top of the one before", async () => {
    const { maker, click, asked, made, waiting } = bench();
    void click(CLICK);
    void click({ ...CLICK, x: 3 });
    await soon();
    expect(asked).toHaveLength(1);
    asked[0]!.give([answer(1, 0.5)]);
    await soon();
    expect(asked[1]!.options.previous).toBe(1);
    asked[1]!.give([answer(2, 0.6)]);
    await maker.settled;
    expect(made.at(-1)!.clicks).toHaveLength(2);
    expect(waiting).toEqual([1, 2, 1, 0]);
  });

  it("that are dropped make nothing, however late the answer comes", async () => {
    const { maker, click, asked, made } = bench();
    void click(CLICK);
    void click({ ...CLICK, x: 3 });
    await soon();
    expect(maker.drop()).toBe(true);
    asked[0]!.give([answer(1, 0.5)]);
    await maker.settled;
    expect(asked).toHaveLength(1);
    expect(made).toEqual([]);
    expect(maker.drop()).toBe(false);
  });

  it("take the answer that a hover at the same place had", async () => {
    const { maker, click, asked, made } = bench();
    maker.hover({ x: CLICK.x, y: CLICK.y });
    asked[0]!.give([answer(1, 0.5), answer(2, 0.6), answer(3, 0.4)]);
    await soon();
    await click(CLICK);
    expect(asked).toHaveLength(1);
    expect(made.at(-1)).toMatchObject({
      chosen: 1,
      choices: [{ token: 1 }, { token: 2 }, { token: 3 }],
    });
  });
});

describe("a proposal that is taken up again", () => {
  it("goes on from the logits of its own prompt that are nearest to it", async () => {
    const { maker, asked } = bench();
    const segmentation = rleOf(answer(5, 1).mask);
    const reopened = maker.reopened(
      {
        proposal_id: "p0",
        segmentation,
        bbox: [0, 0, 4, 2],
        area: 6,
        predicted_iou: 0.9,
        stability_score: 0.9,
        point_coords: [[1, 2]],
      },
      { segmentation, clicks: [] },
    );
    expect(asked[0]!.prompt).toEqual({ clicks: [{ x: 1, y: 2, label: 1 }], box: null });
    asked[0]!.give([answer(15, 0.9), answer(6, 0.1), answer(0, 0.8)]);
    const making = await reopened;
    expect(making.choices).toEqual([{ segmentation, iou: null, token: 6 }]);
    expect(making.target).toBe("p0");
  });
});

describe("boxes", () => {
  it("tells a person's box from the one around a mask that is corrected", async () => {
    const { maker, asked, made } = bench();
    const boxed = maker.box([0, 1, 3, 4], async () => maker.fresh());
    await soon();
    expect(asked[0]!.prompt).toEqual({ clicks: [], box: [0, 1, 3, 4] });
    asked[0]!.give([answer(3, 0.9)]);
    await boxed;
    expect(made[0]).toMatchObject({ box: [0, 1, 3, 4], boxed: true, clicks: [] });

    const segmentation = rleOf(answer(5, 0.9).mask);
    const brushed = { id: "added-1", segmentation, clicks: [], box: null, drawn: true };
    expect(maker.again(brushed)).toMatchObject({ box: [0, 0, 4, 2], boxed: false });
    const again = maker.again({ ...brushed, box: [0, 1, 3, 4] });
    expect(again).toMatchObject({ box: [0, 1, 3, 4], boxed: true });
  });
});
