/** Masks for tests, drawn from seeds, and the slow, obvious forms that they are compared with. */

import { fromBitmap } from "./mask";
import type { Runs } from "./types";

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Each pixel is in the mask with probability `share`. */
export function drawn(height: number, width: number, share: number, next: () => number): Runs {
  const bitmap = Uint8Array.from({ length: height * width }, () => (next() < share ? 1 : 0));
  return fromBitmap(bitmap, height, width);
}

/** Row by row, 1 inside. */
export function bitmapOf({ height, width, starts, ends }: Runs): Uint8Array {
  const bitmap = new Uint8Array(height * width);
  starts.forEach((start, run) => {
    for (let place = start; place < ends[run]!; place++) {
      bitmap[(place % height) * width + Math.floor(place / height)] = 1;
    }
  });
  return bitmap;
}
