/** Low-resolution masks before their threshold. */

import type { Box } from "./types";

/** (side, side) numbers of one mask in a frame, row by row, positive inside. */
export interface Logits {
  readonly side: number;
  readonly data: Float32Array<ArrayBuffer>;
}

/** How many cells are positive. */
export function positiveCells({ data }: Logits): number {
  let count = 0;
  for (const value of data) if (value > 0) count++;
  return count;
}

/** Around the positive cells, counted in cells; null when there are none. */
export function positiveBox({ side, data }: Logits): Box | null {
  let [x0, y0, x1, y1] = [side, side, 0, 0];
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      if (!(data[y * side + x]! > 0)) continue;
      if (x < x0) x0 = x;
      if (x >= x1) x1 = x + 1;
      if (y < y0) y0 = y;
      y1 = y + 1;
    }
  }
  return x1 === 0 ? null : [x0, y0, x1, y1];
}

/** The nearest within -limit and limit. */
export function clamped({ side, data }: Logits, limit: number): Logits {
  return { side, data: data.map((value) => Math.min(Math.max(value, -limit), limit)) };
}
