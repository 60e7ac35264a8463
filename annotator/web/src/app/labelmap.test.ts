import { describe, expect, it } from "vitest";

import { boxOf, fromBitmap } from "../core/mask";
import { colour, labelAt, NONE, paint, Pattern, type Region } from "./labelmap";

const HEIGHT = 9;
const WIDTH = 11;

/** A ring with a hole, and a lone pixel. */
const inMask = (x: number, y: number): boolean =>
  (x >= 2 && x < 7 && y >= 1 && y < 6 && !(x === 4 && y === 3)) || (x === 9 && y === 8);

const bitmap = Uint8Array.from({ length: HEIGHT * WIDTH }, (_, at) =>
  Number(inMask(at % WIDTH, Math.floor(at / WIDTH))),
);
const runs = fromBitmap(bitmap, HEIGHT, WIDTH);
const box = boxOf(runs)!;

describe("paint", () => {
  it.each([
    { name: "one to one", region: { x: 0, y: 0, scale: 1, width: WIDTH, height: HEIGHT } },
    {
      name: "magnified, off the grid",
      region: { x: 1.3, y: 0.7, scale: 3.7, width: 30, height: 25 },
    },
    { name: "shrunk", region: { x: 0, y: 0, scale: 0.6, width: 7, height: 6 } },
    { name: "with a margin around", region: { x: -3, y: -2, scale: 1.5, width: 30, height: 24 } },
  ])("gives each device pixel what its middle shows: $name", ({ region }) => {
    const labels = new Int32Array(region.width * region.height).fill(NONE);
    paint(labels, region, runs, box, 5);
    for (let i = 0; i < region.width; i++) {
      for (let j = 0; j < region.height; j++) {
        const x = Math.floor(region.x + (i + 0.5) / region.scale);
        const y = Math.floor(region.y + (j + 0.5) / region.scale);
        const isInside = x >= 0 && y >= 0 && x < WIDTH && y < HEIGHT && inMask(x, y);
        expect(labels[i * region.height + j], `${i}, ${j}`).toBe(isInside ? 5 : NONE);
      }
    }
  });

  it("shows a mask that is smaller than a device pixel as one", () => {
    const tiny = fromBitmap(
      Uint8Array.from({ length: 10_000 }, (_, at) => Number(at === 5_353)),
      100,
      100,
    );
    const region: Region = { x: 0, y: 0, scale: 0.05, width: 5, height: 5 };
    const labels = new Int32Array(25).fill(NONE);
    paint(labels, region, tiny, boxOf(tiny)!, 1);
    expect([...labels].filter((label) => label === 1)).toHaveLength(1);
    expect(labelAt(labels, region, 53.5, 53.5)).toBe(1);
    expect(labelAt(labels, region, 101, 5)).toBe(NONE);
  });

  it("leaves what is below visible in holes and around", () => {
    const region: Region = { x: 0, y: 0, scale: 1, width: WIDTH, height: HEIGHT };
    const labels = new Int32Array(WIDTH * HEIGHT).fill(0);
    paint(labels, region, runs, box, 1);
    expect(labelAt(labels, region, 4.5, 3.5)).toBe(0);
    expect(labelAt(labels, region, 2.5, 1.5)).toBe(1);
  });
});

describe("colour", () => {
  it("draws the outline and the inside, and nothing elsewhere", () => {
    const region: Region = { x: 0, y: 0, scale: 1, width: WIDTH, height: HEIGHT };
    const labels = new Int32Array(WIDTH * HEIGHT).fill(NONE);
    paint(labels, region, runs, box, 0);
    const image = new Uint32Array(WIDTH * HEIGHT).fill(99);
    for (const _ of colour(
      labels,
      region,
      [{ fill: 1, line: 2, pattern: Pattern.solid }],
      image,
      1,
    ));
    const at = (x: number, y: number): number => image[y * WIDTH + x]!;
    expect([at(0, 0), at(2, 1), at(3, 2), at(3, 3), at(4, 3), at(9, 8)]).toEqual([
      0, 2, 1, 2, 0, 2,
    ]);
  });
});
