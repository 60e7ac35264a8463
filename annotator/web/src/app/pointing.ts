/** What pointer and crosshair do on the picture, with the tool in hand. */

import type { Box } from "../core/types";
import { Gestures } from "./gestures";
import type { Scene } from "./overlay";
import { runsOf } from "./shapes";
import type { Stage } from "./stage";
import { shown } from "./state";
import type { Tool } from "./toolbar";
import { inPicture, isInside, onCanvas, type Point } from "./view";
import type { Visit } from "./visit";

const MIN_SIZE = 2;
const MAX_SIZE = 200;
const STEP = 4;
const FAR_STEP = 40;

export class Pointing {
  tool: Tool = "click";
  /** Radius of the brush in CSS pixels. */
  size = 12;
  isPanning = false;
  crosshair: Point | null = null;
  #corner: Point | null = null;
  #pointer: Point | null = null;
  #drag: Box | null = null;
  #stroke: readonly Point[] = [];
  #frame: number | null = null;
  #touched: string | null = null;
  readonly #gestures: Gestures;

  constructor(
    private readonly stage: Stage,
    private readonly visit: () => Visit | null,
    private readonly changed: () => void,
  ) {
    this.#gestures = new Gestures(stage.element, this.#heard());
  }

  get scene(): Scene {
    const visit = this.visit();
    const making = visit?.making ?? null;
    const choice = making === null ? null : shown(making);
    const preview = visit?.preview ?? null;
    const hovered =
      making === null && this.tool === "click" ? (visit?.hovered?.mask ?? null) : null;
    const selected = making === null ? (visit?.row(visit.selected) ?? null) : null;
    const touched =
      making === null && this.#touched !== visit?.selected
        ? (visit?.row(this.#touched) ?? null)
        : null;
    return {
      hover: hovered,
      making: preview?.mask ?? (choice === null ? null : runsOf(choice.segmentation)),
      selected: selected?.runs ?? null,
      touched: touched?.runs ?? null,
      marks: [
        ...(making?.clicks ?? []),
        ...(visit?.waiting ?? []).map((click) => ({ ...click, waits: true })),
      ],
      box:
        this.#drag ??
        (this.#corner !== null && this.crosshair !== null
          ? around(this.#corner, this.crosshair)
          : (making?.box ?? null)),
      crosshair: this.crosshair,
      stroke: this.#brush(),
    };
  }

  /** Another picture: nothing of the last one is pointed at. */
  reset(): void {
    [this.crosshair, this.#corner, this.#drag, this.#touched, this.#stroke] = [
      null,
      null,
      null,
      null,
      [],
    ];
  }

  use(tool: Tool): void {
    this.tool = tool;
    this.stage.element.classList.toggle("brush", tool !== "click");
    this.visit()?.maker.hover(null);
    this.changed();
  }

  resize(factor: number): void {
    const size = Math.round(this.size * factor) + (factor > 1 ? 1 : -1);
    this.size = Math.max(MIN_SIZE, Math.min(MAX_SIZE, size));
    this.changed();
  }

  pan(isPanning: boolean): void {
    this.isPanning = isPanning;
    this.stage.element.classList.toggle("panning", isPanning);
  }

  /** Leaves a box, stroke or first corner that was begun; says whether there was one. */
  leave(): boolean {
    const had = this.#corner !== null;
    this.#corner = null;
    return this.#gestures.leave() || had;
  }

  toggleCrosshair(): void {
    const { view } = this.stage;
    const isOn = this.crosshair === null;
    this.crosshair = isOn
      ? this.#inside(inPicture(view, { x: view.width / 2, y: view.height / 2 }))
      : null;
    this.#corner = null;
    this.changed();
  }

  /** Arrow keys move the crosshair, and the picture under it where it would leave the canvas. */
  arrow(x: number, y: number, isFar: boolean): void {
    const step = isFar ? FAR_STEP : STEP;
    if (this.crosshair === null) return this.stage.pan(-x * step * 4, -y * step * 4);
    const at = onCanvas(this.stage.view, this.crosshair);
    this.crosshair = this.#inside(
      inPicture(this.stage.view, { x: at.x + x * step, y: at.y + y * step }),
    );
    const moved = onCanvas(this.stage.view, this.crosshair);
    const { width, height } = this.stage.view;
    const beyond = (place: number, room: number): number =>
      Math.min(0, place - 20) + Math.max(0, place + 20 - room);
    this.stage.pan(-beyond(moved.x, width), -beyond(moved.y, height));
    this.changed();
  }

  /** A click, or a dab of the brush, at the crosshair; shows the crosshair first where it is off. */
  here(removes: boolean): void {
    if (this.crosshair === null) return this.toggleCrosshair();
    if (this.tool === "click") this.#click(this.crosshair, removes, false);
    else this.#paint([this.crosshair], this.tool === "brush" && !removes);
  }

  cornerHere(): void {
    if (this.crosshair === null) return this.toggleCrosshair();
    if (this.#corner === null) this.#corner = this.crosshair;
    else {
      this.#box(around(this.#corner, this.crosshair));
      this.#corner = null;
    }
    this.changed();
  }

  #heard() {
    const self = this;
    return {
      get tool() {
        return self.tool === "click" ? ("click" as const) : ("brush" as const);
      },
      get isPanning() {
        return self.isPanning;
      },
      hover: (at: Point | null) => this.#hover(at),
      click: (at: Point, how: { removes: boolean; fresh: boolean }) => {
        const place = this.#place(at);
        if (isInside(place, this.#size)) this.#click(place, how.removes, how.fresh);
      },
      drag: (from: Point, to: Point | null, isDone: boolean) => this.#dragged(from, to, isDone),
      stroke: (path: readonly Point[], isDone: boolean) => this.#stroked(path, isDone),
      pan: (dx: number, dy: number) => this.stage.pan(dx, dy),
      zoom: (factor: number, at: Point) => this.stage.zoom(factor, at),
    };
  }

  get #size() {
    return this.stage.picture ?? { width: 0, height: 0 };
  }

  #place(at: Point): Point {
    const { x, y } = inPicture(this.stage.view, at);
    // Hundredths of a pixel are finer than any hand, and short to write down.
    return { x: Math.round(x * 100) / 100, y: Math.round(y * 100) / 100 };
  }

  #inside(point: Point): Point {
    const { width, height } = this.#size;
    const within = (place: number, end: number): number =>
      Math.max(0.5, Math.min(end - 0.5, Math.round(place * 100) / 100));
    return { x: within(point.x, width), y: within(point.y, height) };
  }

  /** Once a frame, the newest place only. */
  #hover(at: Point | null): void {
    this.#pointer = at;
    this.crosshair = at === null ? this.crosshair : null;
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#look();
    });
  }

  #look(): void {
    const visit = this.visit();
    if (visit === null) return;
    const place = this.#pointer === null ? null : this.#place(this.#pointer);
    const isOn = place !== null && isInside(place, this.#size);
    const under = isOn && visit.making === null ? this.stage.masks.at(place) : null;
    this.#touched = under?.id ?? null;
    const asks =
      isOn &&
      under === null &&
      visit.making === null &&
      this.tool === "click" &&
      !visit.maker.isWaiting;
    visit.maker.hover(asks ? place : null);
    this.changed();
  }

  /**
   * While a mask is in the making, every click is for it. Else a click on a mask selects it, on the
   * selected one begins its correction, and anywhere else begins a new mask.
   */
  #click(place: Point, removes: boolean, fresh: boolean): void {
    const visit = this.visit();
    if (visit === null || this.tool !== "click") return;
    const click = { ...place, label: removes ? 0 : 1 } as const;
    if (visit.making !== null || visit.maker.isWaiting) return void visit.prompt(click);
    const under = fresh ? null : this.stage.masks.at(place);
    if (under !== null && under.id !== visit.selected) return visit.select(under.id);
    if (under === null && !removes) visit.select(null);
    if (under === null && removes && visit.selected === null) return;
    void visit.prompt(click);
  }

  #dragged(from: Point, to: Point | null, isDone: boolean): void {
    const box = to === null ? null : this.#boxOf(from, to);
    this.#drag = isDone ? null : box;
    if (isDone && box !== null) this.#box(box);
    this.changed();
  }

  #box(box: Box): void {
    const visit = this.visit();
    if (visit === null || box[2] - box[0] < 1 || box[3] - box[1] < 1) return;
    if (visit.making === null) visit.select(null);
    void visit.box(box);
  }

  #boxOf(from: Point, to: Point): Box {
    const [x0, y0, x1, y1] = around(this.#place(from), this.#place(to));
    const { width, height } = this.#size;
    return [Math.max(0, x0), Math.max(0, y0), Math.min(width, x1), Math.min(height, y1)];
  }

  #stroked(path: readonly Point[], isDone: boolean): void {
    this.#stroke = isDone ? [] : path;
    this.#pointer = path.at(-1) ?? this.#pointer;
    if (isDone && path.length > 0)
      this.#paint(
        path.map((at) => this.#place(at)),
        this.tool === "brush",
      );
    this.changed();
  }

  #paint(path: readonly Point[], adds: boolean): void {
    this.visit()?.brush(path, this.size / this.stage.view.scale, adds);
  }

  #brush(): Scene["stroke"] {
    if (this.tool === "click" || this.visit() === null) return null;
    const radius = this.size / this.stage.view.scale;
    const adds = this.tool === "brush";
    if (this.crosshair !== null) return { path: [this.crosshair], radius, adds };
    const path =
      this.#stroke.length > 0 ? this.#stroke : this.#pointer === null ? [] : [this.#pointer];
    return { path: path.map((at) => inPicture(this.stage.view, at)), radius, adds };
  }
}

function around(a: Point, b: Point): Box {
  return [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)];
}
