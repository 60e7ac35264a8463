/** Cases of tests/annotator/web/test_same_answers.py: the server's answers, given here. */

import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { area, difference, iou as iouOf } from "../core/mask";
import { decodeRle } from "../core/rle";
import type { Answered, Click, Box, Rle } from "../core/types";
import { Answering } from "./answering";
import type { Subject } from "./predictor";
import type { Reply } from "./protocol";

interface Step {
  clicks: Click[];
  box: Box | null;
  previous: [step: number, which: number] | null;
  multimask: boolean;
  answers: { code: Rle; iou: number }[];
}

interface Cases {
  item: Subject;
  steps: Step[];
}

/** Float32 sums in another order move a border by a pixel here and there. */
const LEAST_IOU = 0.999;
const FEW_PIXELS = 2;

const folder = process.env["MASKLOOP_CASES"];
const cases = JSON.parse(await readFile(`${folder}/cases.json`, "utf8")) as Cases;

const replies: Reply[] = [];
const answering = new Answering(
  (reply) => void replies.push(reply),
  async (path) => {
    const [, window] = path.split("?window=");
    const whole = path === "/api/items/drawn/embedding" ? "embedding" : path;
    const name = window === undefined ? whole : `window-${window.replaceAll(",", "-")}`;
    return new Uint8Array(await readFile(`${folder}/${name}`)).buffer;
  },
);
const given: Answered[][] = [];

async function answered(step: Step, id: number): Promise<Answered[]> {
  const previous = step.previous && given[step.previous[0]]![step.previous[1]]!.token;
  const prompt = { clicks: step.clicks, box: step.box };
  const { multimask } = step;
  const itemId = cases.item.item_id;
  const ask = { kind: "predict", id, itemId, prompt, previous, multimask, hover: false } as const;
  await answering.hear(ask);
  const last = replies.at(-1)!;
  if (last.kind !== "answers") throw new Error(JSON.stringify(last));
  return last.answers;
}

test("the item opens", async () => {
  await answering.hear({ kind: "open", id: 0, item: cases.item });
  expect(replies).toEqual([{ kind: "done", id: 0 }]);
});

describe.each(cases.steps.map((step, index) => ({ step, index })))("step $index", ({ step, index }) => {
  test("has the server's masks and estimates", async () => {
    const answers = await answered(step, index + 1);
    given[index] = answers;
    expect(answers.length).toBe(step.answers.length);
    answers.forEach(({ mask, iou }, which) => {
      const expected = step.answers[which]!;
      const server = decodeRle(expected.code);
      const apart = area(difference(mask, server)) + area(difference(server, mask));
      if (apart > FEW_PIXELS) expect(iouOf(mask, server)).toBeGreaterThan(LEAST_IOU);
      expect(Math.abs(iou - expected.iou)).toBeLessThan(1e-3);
    });
  });
});

test("a window that had to be fetched was announced with the answers of the whole image", () => {
  const announced = replies.filter(({ kind }) => kind === "first");
  expect(announced.length).toBeGreaterThan(2);
});
