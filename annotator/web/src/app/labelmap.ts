/**
 * Masks painted into a map of device pixels, each pixel naming the mask on top; and the map as colours.
 *
 * The map is column-major, as masks' runs are, so that a run is one `fill`. Both steps are
 * generators that stop now and then, so that long ones can be spread over frames.
 */

import type { Box, Runs } from "../core/types";

/**
 * A grid of device pixels over the picture: pixel (i, j) shows the place
 * (x + (i + 0.5) / scale, y + (j + 0.5) / scale) of it.
 */
export interface Region {
  readonly x: number;
  readonly y: number;
  readonly scale: number;
  readonly width: number;
  readonly height: number;
}

export const NONE = -1;

/** How one mask is drawn; colours are ABGR, as ImageData has them on little-endian machines. */
export interface Look {
  readonly fill: number;
  readonly line: number;
  readonly pattern: Pattern;
}

export const enum Pattern {
  solid,
  dashed,
  dotted,
  hatched,
}

/** The device pixel whose middle is the first at or beyond a place, of one axis. */
const firstAt = (place: number, origin: number, scale: number): number =>
  Math.ceil((place - origin) * scale - 0.5);

/** Paints one mask of `box`; a mask too small for any pixel's middle still gets one. */
export function paint(
  labels: Int32Array,
  region: Region,
  runs: Runs,
  box: Box,
  label: number,
): void {
  if (!meets(region, box)) return;
  const { starts, ends, height } = runs;
  let painted = false;
  const lastColumn = region.x + region.width / region.scale;
  for (let index = firstRun(runs, Math.floor(region.x) * height); index < starts.length; index++) {
    const column = Math.floor(starts[index]! / height);
    if (column > lastColumn) break;
    const [top, bottom] = [starts[index]! - column * height, ends[index]! - column * height];
    if (paintColumn(labels, region, column, top, bottom, label)) painted = true;
  }
  if (!painted) paintDot(labels, region, box, label);
}

function paintColumn(
  labels: Int32Array,
  region: Region,
  column: number,
  top: number,
  bottom: number,
  label: number,
): boolean {
  const { scale, width, height } = region;
  const first = Math.max(0, firstAt(column, region.x, scale));
  const last = Math.min(width, firstAt(column + 1, region.x, scale));
  if (first >= last) return false;
  const low = Math.max(0, firstAt(top, region.y, scale));
  const high = Math.min(height, firstAt(bottom, region.y, scale));
  if (low >= high) return false;
  for (let at = first * height; at < last * height; at += height)
    labels.fill(label, at + low, at + high);
  return true;
}

function paintDot(labels: Int32Array, region: Region, box: Box, label: number): void {
  const x = Math.floor(((box[0] + box[2]) / 2 - region.x) * region.scale);
  const y = Math.floor(((box[1] + box[3]) / 2 - region.y) * region.scale);
  if (x >= 0 && y >= 0 && x < region.width && y < region.height)
    labels[x * region.height + y] = label;
}

/** Whether a box can show in the region. */
export function meets(region: Region, box: Box): boolean {
  const right = region.x + region.width / region.scale;
  const bottom = region.y + region.height / region.scale;
  return box[0] < right && box[2] > region.x && box[1] < bottom && box[3] > region.y;
}

/** The first run that ends after a pixel. */
function firstRun(runs: Runs, pixel: number): number {
  let [low, high] = [0, runs.ends.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs.ends[middle]! > pixel) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The mask on top at a device pixel of the map; NONE outside. */
export function labelAt(labels: Int32Array, region: Region, x: number, y: number): number {
  const column = Math.floor((x - region.x) * region.scale);
  const row = Math.floor((y - region.y) * region.scale);
  if (column < 0 || row < 0 || column >= region.width || row >= region.height) return NONE;
  return labels[column * region.height + row]!;
}

const STRIPE = 32;

/**
 * The map in colours, row by row into `image`; lines are `line` device pixels wide.
 *
 * Reads stripes of columns: the map lies along columns, the image along rows.
 */
export function* colour(
  labels: Int32Array,
  region: Region,
  looks: readonly Look[],
  image: Uint32Array,
  line: number,
): Generator<void, void> {
  for (let from = 0; from < region.width; from += STRIPE) {
    colourStripe(labels, region, looks, image, line, from, Math.min(region.width, from + STRIPE));
    yield;
  }
}

function colourStripe(
  labels: Int32Array,
  region: Region,
  looks: readonly Look[],
  image: Uint32Array,
  line: number,
  from: number,
  to: number,
): void {
  const { width, height } = region;
  for (let y = 0; y < height; y++) {
    const up = y >= line ? -line : 0;
    const down = y + line < height ? line : 0;
    for (let x = from; x < to; x++) {
      const at = x * height + y;
      const label = labels[at]!;
      if (label === NONE) {
        image[y * width + x] = 0;
        continue;
      }
      const left = x >= line ? -line * height : 0;
      const right = x + line < width ? line * height : 0;
      const isInner =
        labels[at + up] === label &&
        labels[at + down] === label &&
        labels[at + left] === label &&
        labels[at + right] === label;
      image[y * width + x] = isInner
        ? inner(looks[label]!, x, y, line)
        : border(looks[label]!, x, y, line);
    }
  }
}

/** Patterns tell states apart without colour: dashes, dots, a hatched inside. */
function border(look: Look, x: number, y: number, line: number): number {
  if (look.pattern === Pattern.dashed) return ((x + y) / line) % 8 < 5 ? look.line : look.fill;
  if (look.pattern === Pattern.dotted) return ((x + y) / line) % 4 < 1.5 ? look.line : look.fill;
  return look.line;
}

function inner(look: Look, x: number, y: number, line: number): number {
  if (look.pattern === Pattern.hatched && (x - y + 1e6 * 8 * line) % (8 * line) < line)
    return look.line;
  return look.fill;
}
