import { expect, test } from "vitest";
import { clip, round } from "./rounding";

test.each([
  [0.5, 0],
  [1.5, 2],
  [2.5, 2],
  [-0.5, 0],
  [-1.5, -2],
  [2.4999, 2],
  [2.5001, 3],
  [7, 7],
])("%f is rounded to %i, as Python does", (value, expected) => {
  expect(round(value) + 0).toBe(expected);
});

test.each([
  [-1, 0],
  [0.5, 0.5],
  [9, 3],
])("%f is clipped to %f", (value, expected) => {
  expect(clip(value, 0, 3)).toBe(expected);
});
