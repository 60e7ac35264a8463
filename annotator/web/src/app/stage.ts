/** The canvas: picture, masks and overlay, one above the other, drawn once a frame when needed. */

import type { Box, Runs } from "../core/types";
import { GroundLayer } from "./ground";
import { MaskLayer, type Shown } from "./masklayer";
import { Overlay, type Scene } from "./overlay";
import type { Picture } from "./picture";
import { boxAround } from "./shapes";
import * as views from "./view";
import type { Point, View } from "./view";

/** Of the height: what lies below it has the buttons above. */
const LOW = 0.6;
const EMPTY: Scene = {
  hover: null,
  making: null,
  selected: null,
  touched: null,
  marks: [],
  box: null,
  crosshair: null,
  stroke: null,
};

export class Stage {
  readonly masks: MaskLayer;
  readonly #ground: GroundLayer;
  readonly #overlay: Overlay;
  readonly #above: HTMLCanvasElement;
  /** Where many small steps lead; each, snapped to pixels, would stray. */
  #exact: View = { scale: 1, x: 0, y: 0, width: 1, height: 1, dpr: 1 };
  #view = this.#exact;
  #picture: Picture | null = null;
  #scene: Scene = EMPTY;
  #frame: number | null = null;
  #fitted = true;
  #stale = true;

  /** `moved` is told when the view changes. */
  constructor(
    readonly element: HTMLElement,
    private readonly moved: (view: View) => void,
  ) {
    const [ground, masks, overlay] = [canvas("ground"), canvas("masks"), canvas("overlay")];
    element.prepend(ground, masks, overlay);
    this.#ground = new GroundLayer(ground);
    this.#above = overlay;
    this.#overlay = new Overlay(contextOf(overlay));
    this.masks = new MaskLayer(masks, () => this.#picture ?? { width: 1, height: 1 });
    new ResizeObserver(() => this.#resize()).observe(element);
    this.#watchDensity();
  }

  get view(): View {
    return this.#view;
  }

  get picture(): Picture | null {
    return this.#picture;
  }

  /** Another picture, all of it in sight, without masks yet. */
  open(picture: Picture): void {
    this.#picture?.close();
    this.#picture = picture;
    this.#scene = EMPTY;
    this.masks.show([]);
    this.redraw();
    this.#resize();
    this.fit();
  }

  close(): void {
    this.#picture?.close();
    this.#picture = null;
    this.#scene = EMPTY;
    this.masks.show([]);
    this.redraw();
  }

  fit(): void {
    if (this.#picture === null) return;
    this.#set(views.fit(this.#exact, this.#picture));
    this.#fitted = true;
  }

  pan(dx: number, dy: number): void {
    if (this.#picture !== null) this.#set(views.panned(this.#exact, dx, dy, this.#picture));
  }

  /** Larger or smaller around a place of the canvas, the middle when none is given. */
  zoom(factor: number, at?: Point): void {
    const middle = { x: this.#view.width / 2, y: this.#view.height / 2 };
    if (this.#picture !== null)
      this.#set(views.zoomed(this.#exact, factor, at ?? middle, this.#picture));
  }

  /** Goes to a box of the picture unless it is to be seen well. */
  reveal(box: Box, smallest: number): void {
    if (this.#picture === null || views.isSeen(this.#view, box, smallest)) return;
    this.#set(views.showing(this.#exact, box, Math.max(smallest, 90), this.#picture));
  }

  /** Whether a mask lies in the lower part of what is in sight. */
  isLow(runs: Runs | null): boolean {
    const box = runs === null ? null : boxAround(runs);
    if (box === null) return false;
    const middle = views.onCanvas(this.#view, { x: box[0], y: (box[1] + box[3]) / 2 });
    return middle.y > LOW * this.#view.height;
  }

  showMasks(masks: readonly Shown[]): void {
    this.masks.show(masks);
  }

  showScene(scene: Scene): void {
    this.#scene = scene;
    this.#stale = true;
    this.#ask();
  }

  /** More of the picture is there. */
  redraw(): void {
    this.#ground.invalidate();
    this.#ask();
  }

  #set(view: View): void {
    this.#fitted = false;
    this.#exact = view;
    this.#view = views.snapped(view);
    this.#stale = true;
    this.#ask();
    this.moved(view);
  }

  #ask(): void {
    this.#frame ??= requestAnimationFrame(() => this.#draw());
  }

  #draw(): void {
    this.#frame = null;
    this.#ground.follow(this.#view, this.#picture);
    this.masks.follow(this.#view);
    if (this.#stale) this.#overlay.draw(this.#view, this.#scene);
    this.#stale = false;
  }

  #resize(): void {
    const { clientWidth: width, clientHeight: height } = this.element;
    const dpr = window.devicePixelRatio;
    if (width === 0 || height === 0) return;
    if (width === this.#view.width && height === this.#view.height && dpr === this.#view.dpr)
      return;
    this.#above.width = Math.round(width * dpr);
    this.#above.height = Math.round(height * dpr);
    const fitted = this.#fitted;
    this.#set(views.resized(this.#exact, { width, height }, dpr));
    if (fitted) this.fit();
    this.#draw();
  }

  #watchDensity(): void {
    const query = matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
    query.addEventListener("change", () => [this.#resize(), this.#watchDensity()], { once: true });
  }
}

function canvas(name: string): HTMLCanvasElement {
  const made = document.createElement("canvas");
  made.className = `layer ${name}`;
  made.setAttribute("aria-hidden", "true");
  return made;
}

function contextOf(from: HTMLCanvasElement): CanvasRenderingContext2D {
  const context = from.getContext("2d");
  if (context === null) throw new Error("the browser gives no 2D canvas");
  return context;
}
