import { describe, expect, test } from "vitest";
import { area, boxOf, contains, difference, emptyMask, equal, fromBitmap, intersection, iou, union } from "./mask";
import { bitmapOf, drawn, random } from "./drawn";
import type { Runs } from "./types";

const SIZES: [height: number, width: number][] = [
  [1, 1],
  [1, 9],
  [9, 1],
  [7, 5],
  [16, 33],
];

function pairs(): [Runs, Runs][] {
  const next = random(1);
  return SIZES.flatMap(([height, width]) =>
    [0, 0.1, 0.5, 0.9, 1].map((share): [Runs, Runs] => [
      drawn(height, width, share, next),
      drawn(height, width, next(), next),
    ]),
  );
}

describe("a mask", () => {
  test.each(pairs())("is the same as its bitmap, %#", (mask) => {
    const bitmap = bitmapOf(mask);
    expect(equal(fromBitmap(bitmap, mask.height, mask.width), mask)).toBe(true);
    expect(area(mask)).toBe(bitmap.reduce((sum, value) => sum + value, 0));
    const found = bitmap.map((_, place) => {
      const [x, y] = [place % mask.width, Math.floor(place / mask.width)];
      return contains(mask, x + 0.5, y + 0.25) ? 1 : 0;
    });
    expect(found).toEqual(bitmap);
  });

  test.each(pairs())("has runs in order, each in one column, that do not touch in it, %#", (mask) => {
    const { height, starts, ends } = mask;
    starts.forEach((start, run) => {
      const end = ends[run]!;
      expect(start).toBeLessThan(end);
      expect(Math.floor(start / height)).toBe(Math.floor((end - 1) / height));
      const next = starts[run + 1];
      if (next !== undefined) expect(next > end || (next === end && next % height === 0)).toBe(true);
    });
  });

  test.each(pairs())("has the box of its pixels, %#", (mask) => {
    const places = [...bitmapOf(mask)].flatMap((value, place) => (value ? [place] : []));
    const xs = places.map((place) => place % mask.width);
    const ys = places.map((place) => Math.floor(place / mask.width));
    const around = [Math.min(...xs), Math.min(...ys), Math.max(...xs) + 1, Math.max(...ys) + 1];
    expect(boxOf(mask)).toEqual(places.length ? around : null);
  });

  test("contains nothing beyond its image", () => {
    const full = fromBitmap([1, 1, 1, 1], 2, 2);
    for (const [x, y] of [[-0.5, 0], [0, -0.5], [2, 0], [0, 2]] as const) {
      expect(contains(full, x, y)).toBe(false);
    }
  });

  test("comes from a bitmap of a part of its image", () => {
    const mask = fromBitmap([1, 0, 1, 1], 5, 6, [3, 2, 5, 4]);
    expect(boxOf(mask)).toEqual([3, 2, 5, 4]);
    expect(area(mask)).toBe(3);
    expect(contains(mask, 4, 2)).toBe(false);
    expect(() => fromBitmap([1, 0, 1], 5, 6, [3, 2, 5, 4])).toThrow("bitmap: must have 4 pixels, but got 3");
  });
});

describe("two masks", () => {
  test.each(pairs())("are combined pixel by pixel, %#", (a, b) => {
    const [left, right] = [bitmapOf(a), bitmapOf(b)];
    const expected = (keep: (inA: number, inB: number) => number) =>
      fromBitmap(left.map((value, place) => keep(value, right[place]!)), a.height, a.width);
    expect(equal(union(a, b), expected((p, q) => p | q))).toBe(true);
    expect(equal(intersection(a, b), expected((p, q) => p & q))).toBe(true);
    expect(equal(difference(a, b), expected((p, q) => p & (1 - q)))).toBe(true);
  });

  test.each(pairs())("have the IoU of their pixels, %#", (a, b) => {
    const shared = area(intersection(a, b));
    const all = area(union(a, b));
    expect(iou(a, b)).toBeCloseTo(all ? shared / all : 0, 12);
    expect(equal(a, b)).toBe(shared === all);
  });

  test("must be of one size", () => {
    expect(() => union(emptyMask(2, 3), emptyMask(3, 2))).toThrow("masks: must be of one size");
  });
});
