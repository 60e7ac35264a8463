import { describe, expect, test } from "vitest";
import { bitmapOf, drawn, random } from "./drawn";
import { area, equal, fromBitmap } from "./mask";
import { decodeRle, encodeRle } from "./rle";
import type { Rle } from "./types";

const COLUMN: Rle = { size: [4, 6], counts: "4220<" };

test("the API's own example is four pixels of two columns", () => {
  const mask = decodeRle(COLUMN);
  expect([...mask.starts]).toEqual([4, 8]);
  expect([...mask.ends]).toEqual([6, 10]);
  expect(encodeRle(mask)).toEqual(COLUMN);
});

describe("a code", () => {
  const next = random(2);
  const cases = [
    [1, 1],
    [1, 40],
    [40, 1],
    [13, 17],
    [64, 64],
  ].flatMap(([height, width]) =>
    [0, 0.02, 0.5, 0.98, 1].map((share) => drawn(height!, width!, share, next)),
  );

  test.each(cases)("comes back as the same mask, %#", (mask) => {
    expect(equal(decodeRle(encodeRle(mask)), mask)).toBe(true);
  });

  test.each(cases)("does not start its runs anew with each column, %#", (mask) => {
    const down = [...bitmapOf(mask)];
    const columns = Array.from({ length: down.length }, (_, place) => {
      const [x, y] = [Math.floor(place / mask.height), place % mask.height];
      return down[y * mask.width + x]!;
    });
    const changes = columns.filter((value, place) => value !== (columns[place - 1] ?? 0)).length;
    const numbers = [...encodeRle(mask).counts].filter((c) => !((c.charCodeAt(0) - 48) & 32)).length;
    expect(numbers).toBe(changes + 1);
  });

  test("may hold runs near 2^31 pixels", () => {
    const size: [number, number] = [1, 2 ** 31 - 1];
    const last = { starts: Int32Array.of(size[1] - 1), ends: Int32Array.of(size[1]) };
    const wide = { height: 1, width: size[1], ...last };
    const code = encodeRle(wide);
    expect(code.size).toEqual(size);
    const back = decodeRle(code);
    expect(area(back)).toBe(1);
    expect(equal(back, wide)).toBe(true);
  });

  test("may have empty runs", () => {
    const right = fromBitmap([0, 1, 0, 1], 2, 2);
    expect(equal(decodeRle({ size: [2, 2], counts: "1012" }), right)).toBe(true);
  });
});

describe("a malformed code is refused", () => {
  test.each([
    ["no characters", { size: [2, 2], counts: "" }, "counts: must be a whole code"],
    ["cut off", { size: [2, 2], counts: "T" }, "counts: must be a whole code"],
    ["another alphabet", { size: [2, 2], counts: "4p" }, "only the characters from '0' to 'o'"],
    ["not ASCII", { size: [2, 2], counts: "4é" }, "only the characters from '0' to 'o'"],
    ["a negative run", { size: [2, 2], counts: "O" }, "but got a negative one"],
    ["too few pixels", { size: [2, 2], counts: "3" }, "must add up to 4 pixels (2 x 2), but got 3"],
    ["too many pixels", { size: [2, 2], counts: "32" }, "must add up to 4 pixels (2 x 2), but got 5"],
    ["an endless number", { size: [2, 2], counts: "PPPPPPP0" }, "runs shorter than 2^31"],
    ["no size", { size: [0, 2], counts: "0" }, "size: must be positive"],
    ["a size of no whole number", { size: [1.5, 2], counts: "3" }, "size: must be positive"],
    ["a size beyond 2^31", { size: [65536, 65536], counts: "0" }, "below 2^31 pixels"],
  ] as [string, Rle, string][])("%s", (_, rle, message) => {
    expect(() => decodeRle(rle)).toThrow(message);
  });
});
