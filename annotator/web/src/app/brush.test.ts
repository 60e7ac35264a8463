import { describe, expect, it } from "vitest";

import { area, contains, emptyMask } from "../core/mask";
import { brushed, strokeOf } from "./brush";

const [HEIGHT, WIDTH] = [40, 60];

/** The distance from a point to the way from a to b. */
function distance(
  px: number,
  py: number,
  a: { x: number; y: number },
  b: { x: number; y: number },
): number {
  const squared = (b.x - a.x) ** 2 + (b.y - a.y) ** 2;
  const along = squared === 0 ? 0 : ((px - a.x) * (b.x - a.x) + (py - a.y) * (b.y - a.y)) / squared;
  const t = Math.max(0, Math.min(1, along));
  return Math.hypot(px - a.x - t * (b.x - a.x), py - a.y - t * (b.y - a.y));
}

describe("strokeOf", () => {
  it.each([
    { name: "a dab", path: [{ x: 20.3, y: 15.8 }] },
    {
      name: "a slanted way",
      path: [
        { x: 5.2, y: 6.1 },
        { x: 48.7, y: 31.4 },
      ],
    },
    {
      name: "straight down",
      path: [
        { x: 30, y: 4 },
        { x: 30, y: 33 },
      ],
    },
    {
      name: "straight across",
      path: [
        { x: 4, y: 20.5 },
        { x: 50, y: 20.5 },
      ],
    },
    {
      name: "over the edge",
      path: [
        { x: -5, y: -4 },
        { x: 70, y: 50 },
      ],
    },
    {
      name: "a zigzag",
      path: [
        { x: 5, y: 5 },
        { x: 20, y: 30 },
        { x: 35, y: 6 },
        { x: 55, y: 35 },
      ],
    },
  ])("covers the pixels whose middles are near: $name", ({ path }) => {
    for (const radius of [0.4, 3, 7.5]) {
      const stroke = strokeOf(path, radius, HEIGHT, WIDTH);
      for (let x = 0; x < WIDTH; x++) {
        for (let y = 0; y < HEIGHT; y++) {
          const ways = path.map((to, index) =>
            distance(x + 0.5, y + 0.5, path[Math.max(0, index - 1)]!, to),
          );
          const nearest = Math.min(...ways);
          if (Math.abs(nearest - radius) < 1e-6) continue;
          expect(contains(stroke, x, y), `${x}, ${y}, radius ${radius}`).toBe(nearest < radius);
        }
      }
    }
  });
});

describe("brushed", () => {
  it("adds, and takes away again", () => {
    const path = [
      { x: 10, y: 10 },
      { x: 30, y: 20 },
    ];
    const drawn = brushed(emptyMask(HEIGHT, WIDTH), path, 4, true);
    expect(area(drawn)).toBeGreaterThan(100);
    expect(area(brushed(drawn, path, 4, false))).toBe(0);
    expect(area(brushed(drawn, path, 2, false))).toBeLessThan(area(drawn));
  });
});
