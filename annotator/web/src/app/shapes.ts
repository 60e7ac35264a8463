/** Masks that were decoded once are not decoded again. */

import { boxOf } from "../core/mask";
import { decodeRle, encodeRle } from "../core/rle";
import type { Box, Rle, Runs } from "../core/types";

const runs = new WeakMap<Rle, Runs>();
const boxes = new WeakMap<Runs, Box | null>();

/** The runs of a code. */
export function runsOf(rle: Rle): Runs {
  let found = runs.get(rle);
  if (found === undefined) {
    found = decodeRle(rle);
    runs.set(rle, found);
  }
  return found;
}

/** The code of runs; `runsOf` of it gives these runs. */
export function rleOf(mask: Runs): Rle {
  const rle = encodeRle(mask);
  runs.set(rle, mask);
  return rle;
}

/** The box around a mask, null for an empty one. */
export function boxAround(mask: Runs): Box | null {
  let found = boxes.get(mask);
  if (found === undefined) {
    found = boxOf(mask);
    boxes.set(mask, found);
  }
  return found;
}
