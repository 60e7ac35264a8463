/**
 * All masks as one composited layer.
 *
 * The layer covers what is in sight and a margin. While the view moves, the browser moves the
 * painted layer; it is painted anew, in slices, when the view rests or leaves the margin.
 */

import type { Box, Runs } from "../core/types";
import { colour, labelAt, NONE, paint, type Look, type Region } from "./labelmap";
import { Slices } from "./slices";
import { inPicture, marginOf, MOST_PIXELS, type Point, type Size, type View } from "./view";

/** A mask to show; masks are hit and painted in the order of their list, the last on top. */
export interface Shown {
  readonly id: string;
  readonly runs: Runs;
  readonly box: Box;
  readonly look: Look;
}

interface Painted {
  readonly region: Region;
  readonly labels: Int32Array;
  readonly masks: readonly Shown[];
}

const REST_MS = 90;
const MASKS_A_STEP = 32;

export class MaskLayer {
  #masks: readonly Shown[] = [];
  #painted: Painted | null = null;
  #view: View | null = null;
  #rest: number | null = null;
  readonly #slices: Slices;
  readonly #context: CanvasRenderingContext2D;
  #moved = 0;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly picture: () => Size,
  ) {
    const context = canvas.getContext("2d");
    if (context === null) throw new Error("the browser gives no 2D canvas");
    this.#context = context;
    this.#slices = new Slices(() => performance.now() - this.#moved < REST_MS);
  }

  /** Other masks, or other looks of the same. */
  show(masks: readonly Shown[]): void {
    if (masks === this.#masks) return;
    const before = this.#painted;
    const same = before !== null && !this.#slices.isWorking && haveShapes(before.masks, masks);
    this.#masks = masks;
    if (same) this.#recolour(before);
    else this.#repaint();
  }

  /** Follow the view; the painted layer moves at once. */
  follow(view: View): void {
    if (view === this.#view) return;
    const first = this.#view === null;
    this.#view = view;
    this.#moved = performance.now();
    this.#place();
    if (first) this.#repaint();
    else this.#repaintAtRest();
  }

  set hidden(hidden: boolean) {
    this.canvas.hidden = hidden;
  }

  /** The mask on top at a place of the picture. */
  at(place: Point): Shown | null {
    if (this.#painted === null) return null;
    const label = labelAt(this.#painted.labels, this.#painted.region, place.x, place.y);
    return label === NONE ? null : this.#painted.masks[label]!;
  }

  /** Whether what is painted is what there is. */
  get isCurrent(): boolean {
    return this.#rest === null && !this.#slices.isWorking;
  }

  #repaintAtRest(): void {
    if (this.#rest !== null) clearTimeout(this.#rest);
    this.#rest = window.setTimeout(() => this.#repaint(), REST_MS);
    // Out of the margin there is nothing to see until it is painted: do not wait for the rest.
    if (!this.#slices.isWorking && this.#isUncovered()) this.#repaint();
  }

  #isUncovered(): boolean {
    const [view, region] = [this.#view, this.#painted?.region];
    if (view === null || region === undefined) return true;
    const low = inPicture(view, { x: 0, y: 0 });
    const high = inPicture(view, { x: view.width, y: view.height });
    const { width, height } = this.picture();
    const right = region.x + region.width / region.scale;
    const bottom = region.y + region.height / region.scale;
    const slack = 1 / region.scale;
    return (
      Math.max(0, low.x) < region.x - slack ||
      Math.max(0, low.y) < region.y - slack ||
      Math.min(width, high.x) > right + slack ||
      Math.min(height, high.y) > bottom + slack
    );
  }

  #repaint(): void {
    if (this.#rest !== null) clearTimeout(this.#rest);
    this.#rest = null;
    const view = this.#view;
    if (view === null) return;
    this.#slices.start(this.#painting(regionOf(view, this.picture()), this.#masks));
  }

  *#painting(region: Region, masks: readonly Shown[]): Generator<void, void> {
    const labels = new Int32Array(region.width * region.height).fill(NONE);
    for (const [index, mask] of masks.entries()) {
      paint(labels, region, mask.runs, mask.box, index);
      if (index % MASKS_A_STEP === 0) yield;
    }
    yield* this.#colouring({ region, labels, masks });
  }

  #recolour(painted: Painted): void {
    this.#slices.start(this.#colouring({ ...painted, masks: this.#masks }));
  }

  *#colouring(painted: Painted): Generator<void, void> {
    const { region, labels, masks } = painted;
    const image = new ImageData(region.width, region.height);
    const line = Math.max(1, Math.round(this.#view?.dpr ?? 1));
    const looks = masks.map((mask) => mask.look);
    yield* colour(labels, region, looks, new Uint32Array(image.data.buffer), line);
    if (this.canvas.width !== region.width) this.canvas.width = region.width;
    if (this.canvas.height !== region.height) this.canvas.height = region.height;
    this.#context.putImageData(image, 0, 0);
    this.#painted = painted;
    this.#place();
  }

  #place(): void {
    const [view, region] = [this.#view, this.#painted?.region];
    if (view === null || region === undefined) return;
    const x = region.x * view.scale + view.x;
    const y = region.y * view.scale + view.y;
    this.canvas.style.transform = `translate(${x}px, ${y}px) scale(${view.scale / region.scale})`;
  }
}

/** What is in sight of the picture, with a margin, on device pixels. */
function regionOf(view: View, picture: Size): Region {
  const full = view.scale * view.dpr;
  const visible = view.width * view.height * view.dpr ** 2;
  const margin = marginOf(view);
  const scale = full * Math.min(1, Math.sqrt(MOST_PIXELS / visible));
  const [dx, dy] = [view.width * margin, view.height * margin];
  const low = inPicture(view, { x: -dx, y: -dy });
  const high = inPicture(view, { x: view.width + dx, y: view.height + dy });
  const x = along(low.x, high.x, picture.width, view.x * view.dpr, scale);
  const y = along(low.y, high.y, picture.height, view.y * view.dpr, scale);
  return { x: x.start, y: y.start, scale, width: x.length, height: y.length };
}

/** The part of one axis that is in the picture, begun on a device pixel. */
function along(low: number, high: number, end: number, corner: number, scale: number) {
  const first = Math.floor(corner + Math.max(0, low) * scale) - corner;
  const last = Math.ceil(corner + Math.min(end, high) * scale) - corner;
  return { start: first / scale, length: Math.max(1, Math.round(last - first)) };
}

function haveShapes(a: readonly Shown[], b: readonly Shown[]): boolean {
  return a.length === b.length && a.every((mask, index) => mask.runs === b[index]!.runs);
}
