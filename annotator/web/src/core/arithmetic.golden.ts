/** Cases of tests/annotator/web/test_same_arithmetic.py: what the engine computed, computed here. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { upscaled } from "./bilinear";
import { windowAround } from "./closer_look";
import { Frame } from "./frame";
import type { Logits } from "./logits";
import { Answer, Look } from "./look";
import { area, boxOf, difference } from "./mask";
import { decodeRle, encodeRle } from "./rle";
import type { Box, Rle, Size, Window } from "./types";
import type { CloserLookSettings } from "./wire";

interface Place {
  window: Window;
  side: number;
}

interface Cases {
  codes: { code: Rle; starts: number[]; ends: number[]; area: number; box: number[] }[];
  wrong_codes: { code: Rle; message: string | null }[];
  frames: {
    hw: Size;
    side: number;
    scale: number;
    resized_hw: Size;
    scale_xy: number[];
    point: [number, number];
    in_frame: [number, number];
  }[];
  windows: { look: CloserLookSettings; box: Box; hw: Size; window: Window | null }[];
  masks: {
    logits: string;
    hw: Size;
    side: number;
    window: Window;
    image_hw: Size;
    least: Rle;
    most: Rle;
  }[];
  moves: {
    image_hw: Size;
    logits: string;
    from: Place;
    to: Place;
    seen: string;
    box: number[];
    area: number;
  }[];
}

const folder = process.env["MASKLOOP_CASES"];
const cases = JSON.parse(readFileSync(`${folder}/cases.json`, "utf8")) as Cases;
const NOTHING = [0, 0, 0, 0];

function unpacked(text: string): Logits {
  const bytes = Uint8Array.from(Buffer.from(text, "base64"));
  const data = new Float32Array(bytes.buffer);
  return { side: Math.sqrt(data.length), data };
}

function lookAt({ window, side }: Place, imageHw: Size): Look {
  const [x0, y0, x1, y1] = window;
  const frame = new Frame([y1 - y0, x1 - x0], side);
  return new Look(window, imageHw, { tensors: new Map(), frame, encoderId: "none" });
}

test("there are cases of each kind", () => {
  for (const some of Object.values(cases)) expect(some.length).toBeGreaterThan(4);
});

test.each(cases.codes)("codes, %#", ({ code, starts, ends, area: pixels, box }) => {
  const mask = decodeRle(code);
  expect([...mask.starts]).toEqual(starts);
  expect([...mask.ends]).toEqual(ends);
  expect(area(mask)).toBe(pixels);
  expect(boxOf(mask) ?? NOTHING).toEqual(box);
  expect(encodeRle(mask)).toEqual(code);
});

test.each(cases.wrong_codes)("codes that may be malformed, %#", ({ code, message }) => {
  if (message === null) expect(() => decodeRle(code)).not.toThrow();
  else expect(() => decodeRle(code)).toThrow(message);
});

test.each(cases.frames)("frames, %#", (expected) => {
  const frame = new Frame(expected.hw, expected.side);
  expect(frame.scale).toBe(expected.scale);
  expect(frame.resizedHw).toEqual(expected.resized_hw);
  expect(frame.scaleXy).toEqual(expected.scale_xy);
  expect(frame.toFrame(...expected.point)).toEqual(expected.in_frame);
});

test.each(cases.windows)("windows, %#", ({ look, box, hw, window }) => {
  expect(windowAround(look, box, hw)).toEqual(window);
});

test.each(cases.masks)("masks, %#", ({ logits, hw, side, window, image_hw, least, most }) => {
  const mask = upscaled(unpacked(logits), new Frame(hw, side), window, image_hw);
  expect(area(difference(decodeRle(least), mask))).toBe(0);
  expect(area(difference(mask, decodeRle(most)))).toBe(0);
});

describe.each(cases.moves)("answers, %#", (expected) => {
  const answer = new Answer(
    unpacked(expected.logits),
    0.5,
    lookAt(expected.from, expected.image_hw),
  );

  test("have the same box and area", () => {
    expect(answer.box ?? NOTHING).toEqual(expected.box);
    expect(answer.area).toBe(expected.area);
  });

  test("are the same in another look", () => {
    const seen = answer.seenIn(lookAt(expected.to, expected.image_hw));
    const python = unpacked(expected.seen);
    expect(seen.side).toBe(python.side);
    const furthest = seen.data.reduce(
      (most, value, cell) => Math.max(most, Math.abs(value - python.data[cell]!)),
      0,
    );
    expect(furthest).toBeLessThan(1e-3);
  });
});
