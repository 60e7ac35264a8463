/** When an object is so small in the frame that it is worth a look of its own, and how near. */

import { clip, round } from "./rounding";
import type { Box, Size, Window } from "./types";
import type { CloserLookSettings } from "./wire";

/** The square around a box, moved into the image; null when it is too large to be worth a look. */
export function windowAround(
  look: CloserLookSettings,
  box: Box,
  [height, width]: Size,
): Window | null {
  const [x0, y0, x1, y1] = box;
  const side = Math.max(look.min_side, round(look.context * Math.max(x1 - x0, y1 - y0)));
  if (side * look.min_zoom > Math.max(height, width)) return null;
  const left = Math.trunc(clip((x0 + x1 - side) / 2, 0, Math.max(0, width - side)));
  const top = Math.trunc(clip((y0 + y1 - side) / 2, 0, Math.max(0, height - side)));
  return [left, top, Math.min(left + side, width), Math.min(top + side, height)];
}
