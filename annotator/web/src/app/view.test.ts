import { describe, expect, it } from "vitest";

import { levelFor } from "./picture";
import {
  fit,
  inPicture,
  isSeen,
  onCanvas,
  panned,
  resized,
  showing,
  snapped,
  zoomed,
  type View,
} from "./view";

const PICTURE = { width: 1000, height: 500 };
const START: View = { scale: 1, x: 0, y: 0, width: 800, height: 600, dpr: 2 };

describe("view", () => {
  it("fits all of the picture in the middle", () => {
    const view = fit(START, PICTURE);
    const [low, high] = [onCanvas(view, { x: 0, y: 0 }), onCanvas(view, { x: 1000, y: 500 })];
    expect(low.x).toBeGreaterThan(0);
    expect(high.x).toBeLessThan(800);
    expect(low.x).toBeCloseTo(800 - high.x, 0);
    expect(low.y).toBeCloseTo(600 - high.y, 0);
  });

  it("keeps the place under the pointer while it zooms", () => {
    let view = fit(START, PICTURE);
    const at = { x: 311, y: 287 };
    const place = inPicture(view, at);
    for (const factor of [1.3, 2, 0.7, 3]) view = zoomed(view, factor, at, PICTURE);
    expect(onCanvas(view, place).x).toBeCloseTo(at.x);
    expect(onCanvas(view, place).y).toBeCloseTo(at.y);
  });

  it("never loses the picture", () => {
    const view = panned(fit(START, PICTURE), 1e6, -1e6, PICTURE);
    expect(onCanvas(view, { x: 0, y: 0 }).x).toBeLessThan(800);
    expect(onCanvas(view, { x: 0, y: 500 }).y).toBeGreaterThan(0);
  });

  it("is drawn on device pixels", () => {
    const view = snapped(zoomed(fit(START, PICTURE), 1.37, { x: 13, y: 17 }, PICTURE));
    expect((view.x * view.dpr) % 1).toBe(0);
    expect((view.y * view.dpr) % 1).toBe(0);
  });

  it("goes to what is too small or out of sight", () => {
    const view = fit(START, PICTURE);
    const [tiny, large] = [
      [10, 10, 14, 15],
      [200, 100, 700, 400],
    ] as const;
    expect(isSeen(view, large, 24)).toBe(true);
    expect(isSeen(view, tiny, 24)).toBe(false);
    expect(isSeen(showing(view, tiny, 90, PICTURE), tiny, 24)).toBe(true);
    expect(isSeen(panned(view, -700, 0, PICTURE), large, 24)).toBe(false);
  });

  it("keeps the middle when the canvas changes", () => {
    const view = fit(START, PICTURE);
    const middle = inPicture(view, { x: 400, y: 300 });
    const other = resized(view, { width: 1000, height: 700 }, 1);
    expect(onCanvas(other, middle).x).toBeCloseTo(500);
    expect(onCanvas(other, middle).y).toBeCloseTo(350);
  });
});

describe("levelFor", () => {
  it.each([
    { scale: 4, dpr: 1, level: 0 },
    { scale: 1, dpr: 1, level: 0 },
    { scale: 0.5, dpr: 1, level: 1 },
    { scale: 0.5, dpr: 2, level: 0 },
    { scale: 0.3, dpr: 1, level: 1 },
    { scale: 0.1, dpr: 1, level: 3 },
    { scale: 0.001, dpr: 1, level: 4 },
  ])("is $level at scale $scale and density $dpr", ({ scale, dpr, level }) => {
    expect(levelFor({ scale, dpr }, 5)).toBe(level);
  });
});
