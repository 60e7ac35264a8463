/** What lies above the masks: the mask in the making, the selected one, clicks, box, brush, crosshair. */

import type { Box, Runs } from "../core/types";
import { colour, meets, NONE, paint, Pattern, type Look, type Region } from "./labelmap";
import { packed } from "./palette";
import { boxAround } from "./shapes";
import { inPicture, onCanvas, type Point, type View } from "./view";

/** A click to show; one that waits for its answer is drawn hollow. */
export interface Mark extends Point {
  readonly label: 0 | 1;
  readonly waits?: boolean;
}

export interface Scene {
  readonly hover: Runs | null;
  readonly making: Runs | null;
  readonly selected: Runs | null;
  /** The mask under the pointer. */
  readonly touched: Runs | null;
  readonly marks: readonly Mark[];
  /** A box being drawn, or part of the prompt. */
  readonly box: Box | null;
  readonly crosshair: Point | null;
  /** The brush on its way: its path and radius in pixels of the picture. */
  readonly stroke: {
    readonly path: readonly Point[];
    readonly radius: number;
    readonly adds: boolean;
  } | null;
}

const WHITE: readonly [number, number, number] = [255, 255, 255];
const BLUE: readonly [number, number, number] = [0, 145, 255];
const LOOKS = {
  hover: { fill: packed(BLUE, 0.22), line: packed(WHITE, 0.95), pattern: Pattern.dashed },
  making: { fill: packed(BLUE, 0.42), line: packed(WHITE, 1), pattern: Pattern.solid },
  selected: { fill: packed(WHITE, 0.12), line: packed(WHITE, 1), pattern: Pattern.solid },
  touched: { fill: packed(WHITE, 0.1), line: packed(WHITE, 0.75), pattern: Pattern.solid },
} satisfies Record<string, Look>;

const ADDS = "#0a5bd0";
const REMOVES = "#b3261e";

export class Overlay {
  readonly #scratch = new OffscreenCanvas(1, 1);
  constructor(private readonly context: CanvasRenderingContext2D) {}

  draw(view: View, scene: Scene): void {
    const { context } = this;
    // Most frames of a moving view have nothing here, and a canvas less to lay upon the others is
    // half the time of a frame.
    context.canvas.hidden = isEmpty(scene);
    if (context.canvas.hidden) return;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    for (const name of ["touched", "selected", "hover", "making"] as const) {
      const runs = scene[name];
      if (runs !== null) this.#mask(view, runs, LOOKS[name]);
    }
    context.setTransform(view.dpr, 0, 0, view.dpr, 0, 0);
    if (scene.stroke !== null) this.#stroke(view, scene.stroke);
    if (scene.box !== null) this.#box(view, scene.box);
    for (const mark of scene.marks) this.#mark(onCanvas(view, mark), mark);
    if (scene.crosshair !== null) this.#crosshair(onCanvas(view, scene.crosshair));
  }

  #mask(view: View, runs: Runs, look: Look): void {
    const box = boxAround(runs);
    const region = box === null ? null : regionAround(view, box);
    if (box === null || region === null || !meets(region, box)) return;
    const labels = new Int32Array(region.width * region.height).fill(NONE);
    paint(labels, region, runs, box, 0);
    const image = new ImageData(region.width, region.height);
    const line = Math.max(1, Math.round(2 * view.dpr));
    for (const _ of colour(labels, region, [look], new Uint32Array(image.data.buffer), line));
    this.#put(
      image,
      Math.round((region.x * view.scale + view.x) * view.dpr),
      Math.round((region.y * view.scale + view.y) * view.dpr),
    );
  }

  /** putImageData alone would wipe out what lies below. */
  #put(image: ImageData, x: number, y: number): void {
    this.#scratch.width = image.width;
    this.#scratch.height = image.height;
    this.#scratch.getContext("2d")?.putImageData(image, 0, 0);
    this.context.drawImage(this.#scratch, x, y);
  }

  #stroke(view: View, stroke: NonNullable<Scene["stroke"]>): void {
    const { context } = this;
    const points = stroke.path.map((point) => onCanvas(view, point));
    const last = points.at(-1);
    if (last === undefined) return;
    context.lineCap = "round";
    context.lineJoin = "round";
    if (points.length > 1) {
      context.strokeStyle = stroke.adds ? "rgb(0 145 255 / 0.55)" : "rgb(20 20 20 / 0.6)";
      context.lineWidth = 2 * stroke.radius * view.scale;
      context.beginPath();
      for (const point of points) context.lineTo(point.x, point.y);
      context.stroke();
    }
    this.#twice(() => {
      context.setLineDash(stroke.adds ? [] : [4, 3]);
      context.beginPath();
      context.arc(last.x, last.y, Math.max(1, stroke.radius * view.scale), 0, 2 * Math.PI);
      context.stroke();
    }, 1.5);
    context.setLineDash([]);
  }

  #box(view: View, box: Box): void {
    const low = onCanvas(view, { x: box[0], y: box[1] });
    const high = onCanvas(view, { x: box[2], y: box[3] });
    this.#twice(() => {
      this.context.strokeRect(low.x, low.y, high.x - low.x, high.y - low.y);
    }, 1.5);
  }

  /** A plus adds, a minus removes; a ring in white keeps them apart from any ground. */
  #mark(at: Point, mark: Mark): void {
    const { context } = this;
    const inside = mark.label === 1 ? ADDS : REMOVES;
    context.beginPath();
    context.arc(at.x, at.y, 7, 0, 2 * Math.PI);
    context.fillStyle = mark.waits === true ? "rgb(255 255 255 / 0.85)" : inside;
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = mark.waits === true ? inside : "white";
    context.stroke();
    context.strokeStyle = mark.waits === true ? inside : "white";
    context.beginPath();
    context.moveTo(at.x - 3.5, at.y);
    context.lineTo(at.x + 3.5, at.y);
    if (mark.label === 1) {
      context.moveTo(at.x, at.y - 3.5);
      context.lineTo(at.x, at.y + 3.5);
    }
    context.stroke();
  }

  #crosshair(at: Point): void {
    const { context } = this;
    this.#twice(() => {
      context.beginPath();
      for (const [dx, dy] of [
        [1, 0],
        [-1, 0],
        [0, 1],
        [0, -1],
      ] as const) {
        context.moveTo(at.x + dx * 4, at.y + dy * 4);
        context.lineTo(at.x + dx * 18, at.y + dy * 18);
      }
      context.stroke();
    }, 2);
  }

  /** Dark and wide, then white: to be seen on anything. */
  #twice(draw: () => void, width: number): void {
    for (const [style, extra] of [
      ["rgb(0 0 0 / 0.7)", 2],
      ["white", 0],
    ] as const) {
      this.context.strokeStyle = style;
      this.context.lineWidth = width + extra;
      draw();
    }
  }
}

/** The device pixels of the canvas that a box of the picture covers, with room for lines. */
function regionAround(view: View, box: Box): Region | null {
  const scale = view.scale * view.dpr;
  const along = (low: number, high: number, corner: number, room: number): [number, number] => [
    Math.max(0, Math.floor(low * scale + corner * view.dpr) - 2),
    Math.min(Math.ceil(room * view.dpr), Math.ceil(high * scale + corner * view.dpr) + 2),
  ];
  const [left, right] = along(box[0], box[2], view.x, view.width);
  const [top, bottom] = along(box[1], box[3], view.y, view.height);
  if (right <= left || bottom <= top) return null;
  const corner = inPicture(view, { x: left / view.dpr, y: top / view.dpr });
  return { x: corner.x, y: corner.y, scale, width: right - left, height: bottom - top };
}

function isEmpty({ marks, ...others }: Scene): boolean {
  return marks.length === 0 && Object.values(others).every((part) => part === null);
}
