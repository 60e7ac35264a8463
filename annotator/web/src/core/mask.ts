/** Masks as runs: made, measured and combined without ever being bitmaps. */

import type { Box, Runs } from "./types";

const FIRST_CAPACITY = 64;

/** Collects runs in order; each is cut at the ends of columns, and runs that touch in one are joined. */
export class RunsBuilder {
  private starts = new Int32Array(FIRST_CAPACITY);
  private ends = new Int32Array(FIRST_CAPACITY);
  private count = 0;

  constructor(
    private readonly height: number,
    private readonly width: number,
  ) {}

  /** Pixels from start to end, half-open, counted down the columns; none before those of earlier calls. */
  add(start: number, end: number): void {
    let from = start;
    while (from < end) {
      const bottom = (Math.floor(from / this.height) + 1) * this.height;
      const to = Math.min(end, bottom);
      this.addInColumn(from, to);
      from = to;
    }
  }

  /** The same for a run that is not empty and lies in one column. */
  addInColumn(start: number, end: number): void {
    const last = this.count - 1;
    if (last >= 0 && this.ends[last] === start && start % this.height !== 0) {
      this.ends[last] = end;
      return;
    }
    if (this.count === this.starts.length) this.grow();
    this.starts[this.count] = start;
    this.ends[this.count] = end;
    this.count++;
  }

  build(): Runs {
    return {
      height: this.height,
      width: this.width,
      starts: this.starts.slice(0, this.count),
      ends: this.ends.slice(0, this.count),
    };
  }

  private grow(): void {
    this.starts = doubled(this.starts);
    this.ends = doubled(this.ends);
  }
}

function doubled(values: Int32Array): Int32Array<ArrayBuffer> {
  const longer = new Int32Array(2 * values.length);
  longer.set(values);
  return longer;
}

/** A mask without pixels. */
export function emptyMask(height: number, width: number): Runs {
  return new RunsBuilder(height, width).build();
}

/** Pixels of the mask. */
export function area(mask: Runs): number {
  let sum = 0;
  for (let run = 0; run < mask.starts.length; run++) sum += mask.ends[run]! - mask.starts[run]!;
  return sum;
}

/** Around the mask; null for an empty one. */
export function boxOf(mask: Runs): Box | null {
  const { height, starts, ends } = mask;
  if (starts.length === 0) return null;
  let top = height;
  let bottom = 0;
  for (let run = 0; run < starts.length; run++) {
    const row = starts[run]! % height;
    top = Math.min(top, row);
    bottom = Math.max(bottom, row + ends[run]! - starts[run]!);
  }
  const first = Math.floor(starts[0]! / height);
  const last = Math.floor(starts[starts.length - 1]! / height);
  return [first, top, last + 1, bottom];
}

/** Whether the pixel at (x, y), whole or not, is in the mask; false beyond the image. */
export function contains(mask: Runs, x: number, y: number): boolean {
  const { height, width, starts, ends } = mask;
  const column = Math.floor(x);
  const row = Math.floor(y);
  if (column < 0 || row < 0 || column >= width || row >= height) return false;
  const place = column * height + row;
  const run = runsStartingUpTo(starts, place) - 1;
  return run >= 0 && place < ends[run]!;
}

/** How many runs start at `place` or before. */
function runsStartingUpTo(starts: Int32Array, place: number): number {
  let low = 0;
  let high = starts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (starts[middle]! <= place) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Pixels in either. */
export function union(a: Runs, b: Runs): Runs {
  return combined(a, b, (inA, inB) => inA || inB);
}

/** Pixels in both. */
export function intersection(a: Runs, b: Runs): Runs {
  return combined(a, b, (inA, inB) => inA && inB);
}

/** Pixels of the first that are not in the second. */
export function difference(a: Runs, b: Runs): Runs {
  return combined(a, b, (inA, inB) => inA && !inB);
}

/** Intersection over union; 0 when both are empty. */
export function iou(a: Runs, b: Runs): number {
  const shared = area(intersection(a, b));
  return shared === 0 ? 0 : shared / (area(a) + area(b) - shared);
}

/** Whether both have the same pixels. */
export function equal(a: Runs, b: Runs): boolean {
  return (
    a.height === b.height &&
    a.width === b.width &&
    a.starts.length === b.starts.length &&
    a.starts.every((start, run) => start === b.starts[run] && a.ends[run] === b.ends[run])
  );
}

/** The pixels for which `keep` holds, which must not hold for pixels in neither. */
function combined(a: Runs, b: Runs, keep: (inA: boolean, inB: boolean) => boolean): Runs {
  if (a.height !== b.height || a.width !== b.width) {
    throw new Error(
      `masks: must be of one size, but got ${a.height} x ${a.width} and ${b.height} x ${b.width}`,
    );
  }
  const builder = new RunsBuilder(a.height, a.width);
  const left = new Borders(a);
  const right = new Borders(b);
  let place = 0;
  while (true) {
    const next = Math.min(left.next, right.next);
    if (keep(left.inside, right.inside)) builder.add(place, next);
    if (next === Infinity) return builder.build();
    left.passTo(next);
    right.passTo(next);
    place = next;
  }
}

/** Walks over the places where a mask begins and ends. */
class Borders {
  inside = false;
  next: number;
  private run = 0;

  constructor(private readonly mask: Runs) {
    this.next = mask.starts[0] ?? Infinity;
  }

  /** To a place that is not beyond `next`. */
  passTo(place: number): void {
    if (this.next !== place) return;
    this.inside = !this.inside;
    if (!this.inside) this.run++;
    this.next = (this.inside ? this.mask.ends : this.mask.starts)[this.run] ?? Infinity;
    // A run that begins in the next column where the last one ended.
    if (!this.inside) this.passTo(place);
  }
}

/**
 * From a bitmap, row by row, not 0 inside: of the whole image, or of the part of it in `box`
 * (whole pixels), beyond which nothing is in the mask.
 */
export function fromBitmap(
  bitmap: ArrayLike<number>,
  height: number,
  width: number,
  box: Box = [0, 0, width, height],
): Runs {
  const [x0, y0, x1, y1] = box;
  const across = x1 - x0;
  if (bitmap.length !== across * (y1 - y0)) {
    throw new Error(
      `bitmap: must have ${across * (y1 - y0)} pixels, but got ${bitmap.length}`,
    );
  }
  const builder = new RunsBuilder(height, width);
  for (let x = x0; x < x1; x++) {
    let from = -1;
    for (let y = y0; y < y1; y++) {
      const inside = bitmap[(y - y0) * across + x - x0] !== 0;
      if (inside && from < 0) from = y;
      if (!inside && from >= 0) {
        builder.addInColumn(x * height + from, x * height + y);
        from = -1;
      }
    }
    if (from >= 0) builder.addInColumn(x * height + from, x * height + y1);
  }
  return builder.build();
}
