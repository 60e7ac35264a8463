/**
 * Logits of a frame -> a mask in the image, as `upscale_logits` of engine/model/predictor.py and > 0.
 *
 * That is two bilinear steps: logits to frame, and the picture in the frame to its original size.
 * Both go along rows and columns apart. So a column of the image is weighed together from at most
 * three columns of the logits, spread over the frame's rows, and then only its changes of sign count:
 * between two rows of the frame that have one sign every pixel has that sign. Nothing of the image's
 * size is ever in memory.
 */

import type { Frame } from "./frame";
import { type Logits, positiveBox } from "./logits";
import { RunsBuilder } from "./mask";
import type { Runs, Size, Window } from "./types";

const { fround } = Math;

/**
 * The mask of logits in the frame of a picture, which lies at `window` in an image of `imageHw`.
 */
export function upscaled(logits: Logits, frame: Frame, window: Window, imageHw: Size): Runs {
  const [left, top] = window;
  const [height, width] = imageHw;
  const builder = new RunsBuilder(height, width);
  const box = positiveBox(logits);
  if (box) {
    const across = new Across(logits, new Axis(logits.side, frame, 1, box[0], box[2]), box);
    const down = new Down(new Axis(logits.side, frame, 0, box[1], box[3]));
    for (let x = across.axis.first; x < across.axis.end; x++) {
      if (across.weigh(x)) down.addRuns(across.column, builder, (left + x) * height + top);
    }
  }
  return builder.build();
}

/** Places along one axis of a bilinear step: each between `below` and the next, nearer by `share`. */
interface Step {
  readonly below: Int32Array;
  readonly share: Float32Array;
}

/** `from` numbers stretched to `to`, in float32 as torch computes it with align_corners=False. */
function stretched(from: number, to: number): Step {
  const below = new Int32Array(to);
  const share = new Float32Array(to);
  const scale = fround(from / to);
  for (let place = 0; place < to; place++) {
    const source = Math.max(0, fround(fround(scale * (place + 0.5)) - 0.5));
    below[place] = Math.min(Math.floor(source), from - 1);
    share[place] = Math.min(1, source - below[place]!);
  }
  return { below, share };
}

/** Both steps along one axis, and where logits that are positive in [low, high) can reach. */
class Axis {
  readonly toFrame: Step;
  readonly toPicture: Step;
  /** Rows or columns of the frame that show the picture. */
  readonly shown: number;
  /** Of the frame: those that can be positive and one more at each end, half-open. */
  readonly frameFirst: number;
  readonly frameEnd: number;
  /** Of the picture: those that can be positive, half-open. */
  readonly first: number;
  readonly end: number;

  constructor(side: number, frame: Frame, axis: 0 | 1, low: number, high: number) {
    this.shown = frame.resizedHw[axis];
    this.toFrame = stretched(side, frame.side);
    this.toPicture = stretched(this.shown, frame.originalHw[axis]);
    const [first, end] = reach(this.toFrame.below.subarray(0, this.shown), low, high);
    this.frameFirst = Math.max(0, first - 1);
    this.frameEnd = Math.min(this.shown, end + 1);
    [this.first, this.end] = reach(this.toPicture.below, first, end);
  }
}

/** The places, half-open, that lie between two of which one is in [low, high). */
function reach(below: Int32Array, low: number, high: number): [first: number, end: number] {
  return [firstFrom(below, low - 1), firstFrom(below, high)];
}

/** The first index whose value, of values in order, is at least `value`. */
function firstFrom(values: Int32Array, value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Columns of the picture, weighed together from those of the logits. */
class Across {
  /** The logits down the column that was weighed last; rows that cannot matter are not set. */
  readonly column: Float32Array;
  /** Column by column. */
  private readonly turned: Float32Array;
  private readonly side: number;
  private readonly top: number;
  private readonly bottom: number;

  constructor(
    { side, data }: Logits,
    readonly axis: Axis,
    [, y0, , y1]: Window,
  ) {
    this.side = side;
    this.column = new Float32Array(side);
    this.turned = new Float32Array(side * side);
    this.top = Math.max(0, y0 - 2);
    this.bottom = Math.min(side, y1 + 2);
    for (let y = this.top; y < this.bottom; y++) {
      for (let x = 0; x < side; x++) this.turned[x * side + y] = data[y * side + x]!;
    }
  }

  /** Makes `column` that of the picture's column x; says whether anything in it is positive. */
  weigh(x: number): boolean {
    const { toPicture, toFrame, shown } = this.axis;
    const left = toPicture.below[x]!;
    const right = Math.min(left + 1, shown - 1);
    const share = toPicture.share[x]!;
    const first = toFrame.below[left]!;
    // The second column of the frame begins at the same column of the logits or the next.
    const further = toFrame.below[right]! - first;
    const ownLeft = toFrame.share[left]!;
    const ownRight = toFrame.share[right]!;
    const low = share * (1 - ownRight);
    const high = share * ownRight;
    const a = (1 - share) * (1 - ownLeft) + (further ? 0 : low);
    const b = (1 - share) * ownLeft + (further ? low : high);
    const c = further ? high : 0;
    return this.sum(first, a, b, c);
  }

  private sum(first: number, a: number, b: number, c: number): boolean {
    const { turned, side, column, bottom } = this;
    const last = side - 1;
    const atA = first * side;
    const atB = Math.min(first + 1, last) * side;
    const atC = Math.min(first + 2, last) * side;
    let positive = false;
    for (let y = this.top; y < bottom; y++) {
      const value = a * turned[atA + y]! + b * turned[atB + y]! + c * turned[atC + y]!;
      column[y] = value;
      positive ||= value > 0;
    }
    return positive;
  }
}

/** Rows of the picture from the logits down one column of it. */
class Down {
  /** One value for each row of the frame. */
  private readonly inFrame: Float32Array;
  /** For each row of the frame the first of the picture that lies at it or further down. */
  private readonly firstRow: Int32Array;

  constructor(private readonly axis: Axis) {
    this.inFrame = new Float32Array(axis.shown + 1);
    this.firstRow = Int32Array.from({ length: axis.shown + 1 }, (_, row) =>
      firstFrom(axis.toPicture.below, row),
    );
  }

  /** Adds the runs where a column is positive; `origin`: the place of its top in the image. */
  addRuns(column: Float32Array, builder: RunsBuilder, origin: number): void {
    this.spread(column);
    const { inFrame, firstRow } = this;
    const { frameFirst, frameEnd } = this.axis;
    for (let row = frameFirst; row < frameEnd; row++) {
      const from = firstRow[row]!;
      const to = firstRow[row + 1]!;
      const upper = inFrame[row]! > 0;
      const lower = inFrame[row + 1]! > 0;
      if (from === to || !(upper || lower)) continue;
      // Where one is positive and the other not, there is one change between them.
      const change = upper === lower ? to : this.firstLike(lower, row, from, to);
      if (upper && from < change) builder.addInColumn(origin + from, origin + change);
      if (lower && change < to) builder.addInColumn(origin + change, origin + to);
    }
  }

  /** From the logits down a column to the frame's rows; one more, the same as the picture's last. */
  private spread(column: Float32Array): void {
    const { toFrame, frameFirst, frameEnd, shown } = this.axis;
    const last = column.length - 1;
    for (let row = frameFirst; row < frameEnd; row++) {
      const below = toFrame.below[row]!;
      const share = toFrame.share[row]!;
      const next = column[Math.min(below + 1, last)]!;
      this.inFrame[row] = (1 - share) * column[below]! + share * next;
    }
    this.inFrame[frameEnd] = frameEnd === shown ? this.inFrame[shown - 1]! : -1;
  }

  /** The first row of the picture in [from, to) whose sign is that of the frame's next row. */
  private firstLike(positive: boolean, row: number, from: number, to: number): number {
    const { share } = this.axis.toPicture;
    const upper = this.inFrame[row]!;
    const lower = this.inFrame[row + 1]!;
    for (let place = from; place < to; place++) {
      const part = share[place]!;
      if ((1 - part) * upper + part * lower > 0 === positive) return place;
    }
    return to;
  }
}
