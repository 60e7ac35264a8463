/** The frame that a model sees, as engine/geometry.py has it. */

import type { Size } from "./types";

/** SAM's resize: the longest side becomes `side`, the rest is padded at the bottom and right. */
export class Frame {
  /** Frame pixels per original pixel along the longer side. */
  readonly scale: number;
  /** The size of the picture inside the frame. */
  readonly resizedHw: Size;
  /** Frame pixels per original pixel along each side, which the rounded size gives; float32. */
  readonly scaleXy: readonly [x: number, y: number];

  constructor(
    readonly originalHw: Size,
    readonly side: number,
  ) {
    const [height, width] = originalHw;
    if (!(height >= 1 && width >= 1)) {
      throw new Error(`originalHw: must be positive, but got ${height} x ${width}`);
    }
    if (!(side >= 1)) throw new Error(`side: must be positive, but got ${side}`);
    this.scale = side / Math.max(height, width);
    const resized = (length: number) => Math.max(1, Math.trunc(length * this.scale + 0.5));
    this.resizedHw = [resized(height), resized(width)];
    this.scaleXy = [
      Math.fround(this.resizedHw[1] / width),
      Math.fround(this.resizedHw[0] / height),
    ];
  }

  /** (x, y) in original pixels, float32 -> frame pixels, float32. */
  toFrame(x: number, y: number): [x: number, y: number] {
    return [Math.fround(x * this.scaleXy[0]), Math.fround(y * this.scaleXy[1])];
  }
}
