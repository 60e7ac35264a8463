/** The words that core, worker and pages share. Positions are pixels of the original image. */

/** (x0, y0, x1, y1), half-open. */
export type Box = readonly [number, number, number, number];

/** A part of an image in whole pixels, half-open. */
export type Window = Box;

export type Size = readonly [height: number, width: number];

/** A mask as COCO's compressed run-length code, column-major, background first. */
export interface Rle {
  size: [height: number, width: number];
  counts: string;
}

/** 1 adds what lies there, 0 removes it. */
export interface Click {
  x: number;
  y: number;
  label: 0 | 1;
}

export interface Prompt {
  clicks: readonly Click[];
  box: Box | null;
}

/**
 * A mask as runs down its columns: pixel (x, y) counts x * height + y; half-open [starts[i], ends[i]).
 *
 * Sorted, disjoint, none empty, each in one column and apart from the next in it, so that equal masks
 * have equal runs.
 */
export interface Runs {
  readonly height: number;
  readonly width: number;
  readonly starts: Int32Array<ArrayBuffer>;
  readonly ends: Int32Array<ArrayBuffer>;
}

/** One mask for a prompt. `token` names the logits that whoever answered keeps, to go on from. */
export interface Answered {
  mask: Runs;
  /** The intersection over union that the model expects, in [0, 1]. */
  iou: number;
  token: number;
}
