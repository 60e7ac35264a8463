import { describe, expect, test } from "vitest";
import { upscaled } from "./bilinear";
import { random } from "./drawn";
import { Frame } from "./frame";
import type { Logits } from "./logits";
import { area, boxOf, contains, fromBitmap } from "./mask";
import type { Size } from "./types";

/** One bilinear step, number by number. */
function resized(values: number[][], [height, width]: Size): number[][] {
  const between = (place: number, from: number, to: number): [number, number, number] => {
    const source = Math.max(0, (from / to) * (place + 0.5) - 0.5);
    const below = Math.min(Math.floor(source), from - 1);
    return [below, Math.min(below + 1, from - 1), source - below];
  };
  return Array.from({ length: height }, (_, y) => {
    const [top, bottom, down] = between(y, values.length, height);
    return Array.from({ length: width }, (_, x) => {
      const [left, right, across] = between(x, values[0]!.length, width);
      const row = (at: number) => values[at]![left]! * (1 - across) + values[at]![right]! * across;
      return row(top) * (1 - down) + row(bottom) * down;
    });
  });
}

function slowly({ side, data }: Logits, frame: Frame): number[][] {
  const rows = Array.from({ length: side }, (_, y) => [...data.subarray(y * side, (y + 1) * side)]);
  const [height, width] = frame.resizedHw;
  const inFrame = resized(rows, [frame.side, frame.side]);
  const picture = inFrame.slice(0, height).map((row) => row.slice(0, width));
  return resized(picture, frame.originalHw);
}

/** Noise, smoother for larger cells. */
function noise(side: number, cell: number, mean: number, next: () => number): Logits {
  const coarse = Array.from({ length: Math.ceil(side / cell) + 1 }, () =>
    Array.from({ length: Math.ceil(side / cell) + 1 }, () => 20 * (next() - 0.5) + mean),
  );
  return { side, data: new Float32Array(resized(coarse, [side, side]).flat()) };
}

const next = random(3);
const SIZES: Size[] = [[1, 1], [9, 50], [50, 9], [64, 64], [130, 90], [301, 300]];
const cases = SIZES.flatMap((hw) =>
  [
    [1, 0],
    [1, -9.5],
    [4, -3],
    [8, 2],
    [4, 30],
  ].map(([cell, mean]) => ({ hw, logits: noise(16, cell!, mean!, next) })),
);

describe("logits", () => {
  test.each(cases)("become the pixels that are positive, %#", ({ hw, logits }) => {
    const frame = new Frame(hw, 64);
    const [height, width] = hw;
    const mask = upscaled(logits, frame, [0, 0, width, height], hw);
    // Sums of float32 numbers in another order may fall on the other side of 0.
    const wrong = slowly(logits, frame).flatMap((row, y) =>
      row.filter((value, x) => Math.abs(value) > 1e-4 && contains(mask, x, y) !== value > 0),
    );
    expect(wrong).toEqual([]);
  });

  test.each(cases)("of a window lie in it, %#", ({ hw, logits }) => {
    const [height, width] = hw;
    const frame = new Frame(hw, 64);
    const alone = upscaled(logits, frame, [0, 0, width, height], hw);
    const inImage = upscaled(logits, frame, [7, 3, 7 + width, 3 + height], [height + 5, width + 9]);
    expect(area(inImage)).toBe(area(alone));
    const box = boxOf(alone);
    const moved = box && [box[0] + 7, box[1] + 3, box[2] + 7, box[3] + 3];
    expect(boxOf(inImage)).toEqual(moved);
  });

  test("without a positive number are an empty mask", () => {
    const logits = { side: 16, data: new Float32Array(256).fill(-1) };
    const mask = upscaled(logits, new Frame([30, 40], 64), [0, 0, 40, 30], [30, 40]);
    expect(mask.starts.length).toBe(0);
  });

  test("of an image of a hundred million pixels take no bitmap", () => {
    const hw: Size = [9000, 12000];
    const logits = noise(128, 16, -2, next);
    const mask = upscaled(logits, new Frame(hw, 512), [0, 0, hw[1], hw[0]], hw);
    const small = upscaled(logits, new Frame([900, 1200], 512), [0, 0, 1200, 900], [900, 1200]);
    expect(area(mask) / area(small)).toBeCloseTo(100, 0);
    expect(mask.starts.every((start, run) => start < mask.ends[run]!)).toBe(true);
  });
});

test("a bitmap is its own slow form", () => {
  const bitmap = [0, 1, 1, 0, 0, 1];
  const mask = fromBitmap(bitmap, 2, 3);
  expect(bitmap.map((_, place) => contains(mask, place % 3, Math.floor(place / 3)))).toEqual(
    bitmap.map((value) => value === 1),
  );
});
