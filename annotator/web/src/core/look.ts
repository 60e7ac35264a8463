/** A window of an image as the model sees it, and an answer there (engine/model/interactive.py). */

import { upscaled } from "./bilinear";
import type { Embedding } from "./embedding";
import { type Logits, positiveBox, positiveCells } from "./logits";
import type { Box, Prompt, Runs, Size, Window } from "./types";

const NOTHING = -10;
const { fround } = Math;

export class Look {
  constructor(
    readonly window: Window,
    readonly imageHw: Size,
    readonly embedding: Embedding,
  ) {}

  /** The look at all of an image. */
  static whole(embedding: Embedding): Look {
    const [height, width] = embedding.frame.originalHw;
    return new Look([0, 0, width, height], [height, width], embedding);
  }

  get isWhole(): boolean {
    const [height, width] = this.embedding.frame.originalHw;
    return height === this.imageHw[0] && width === this.imageHw[1];
  }

  /** Whether a box lies in the window. */
  holds(box: Box): boolean {
    const [x0, y0, x1, y1] = this.window;
    return x0 <= box[0] && y0 <= box[1] && box[2] <= x1 && box[3] <= y1;
  }

  /** A prompt in pixels of the image -> of the window. */
  moved({ clicks, box }: Prompt): Prompt {
    const [left, top] = this.window;
    return {
      clicks: clicks.map(({ x, y, label }) => ({ x: fround(x - left), y: fround(y - top), label })),
      box: box && [
        fround(box[0] - left),
        fround(box[1] - top),
        fround(box[2] - left),
        fround(box[3] - top),
      ],
    };
  }
}

/** One mask for one prompt, and the IoU expected of it. */
export class Answer {
  constructor(
    readonly logits: Logits,
    readonly iou: number,
    readonly look: Look,
  ) {}

  /** In the image. */
  mask(): Runs {
    const { look, logits } = this;
    return upscaled(logits, look.embedding.frame, look.window, look.imageHw);
  }

  /** Of the mask, in pixels of the frame. */
  get area(): number {
    return positiveCells(this.logits) * this.stride ** 2;
  }

  /** Around the mask in the image, to a cell; null for an empty mask. */
  get box(): Box | null {
    const cells = positiveBox(this.logits);
    if (!cells) return null;
    const [left, top, right, bottom] = this.look.window;
    const scale = fround(this.stride / this.look.embedding.frame.scale);
    // The last cells reach beyond the picture.
    const x = (cell: number) => Math.min(fround(left + fround(cell * scale)), right);
    const y = (cell: number) => Math.min(fround(top + fround(cell * scale)), bottom);
    return [x(cells[0]), y(cells[1]), x(cells[2]), y(cells[3])];
  }

  private get stride(): number {
    return this.look.embedding.frame.side / this.logits.side;
  }

  /** The logits as another look would have them: nothing beyond the window of this one. */
  seenIn(look: Look): Logits {
    if (sameWindow(look.window, this.look.window)) return this.logits;
    const side = Math.round(look.embedding.frame.side / this.stride);
    const columns = this.placesOf(look, 0, side);
    const rows = this.placesOf(look, 1, side);
    return { side, data: sampled(this.logits, columns, rows) };
  }

  /** Where in these logits, counted in cells, the middles of the other look's cells lie. */
  private placesOf(look: Look, axis: 0 | 1, side: number): Float32Array {
    const there = look.embedding.frame;
    const here = this.look.embedding.frame;
    const step = fround(there.side / side / there.scale);
    const scale = fround((2 * here.scale) / here.side);
    return Float32Array.from({ length: side }, (_, cell) => {
      const middle = fround(fround((cell + 0.5) * step) + look.window[axis]);
      const place = fround(fround(fround(middle - this.look.window[axis]) * scale) - 1);
      return (fround(fround(place + 1) * this.logits.side) - 1) / 2;
    });
  }
}

export function sameWindow(a: Window, b: Window): boolean {
  return a.every((value, index) => value === b[index]);
}

/** Bilinear between the middles of cells; what lies beyond them is NOTHING. */
function sampled(
  { side, data }: Logits,
  columns: Float32Array,
  rows: Float32Array,
): Float32Array<ArrayBuffer> {
  const raised = (x: number, y: number) =>
    x < 0 || y < 0 || x >= side || y >= side ? 0 : data[y * side + x]! - NOTHING;
  const found = new Float32Array(columns.length * rows.length);
  let index = 0;
  for (const y of rows) {
    const y0 = Math.floor(y);
    const down = y - y0;
    for (const x of columns) {
      const x0 = Math.floor(x);
      const right = x - x0;
      const upper = raised(x0, y0) * (1 - right) + raised(x0 + 1, y0) * right;
      const lower = raised(x0, y0 + 1) * (1 - right) + raised(x0 + 1, y0 + 1) * right;
      found[index++] = upper * (1 - down) + lower * down + NOTHING;
    }
  }
  return found;
}
