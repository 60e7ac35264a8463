/** Mouse, pen and fingers on the canvas, told as what they mean. Places are CSS pixels of the canvas. */

import type { Point } from "./view";

export interface Heard {
  hover(at: Point | null): void;
  /** A click; `removes` with the right button or Shift, `fresh` with Alt: a new mask in any case. */
  click(at: Point, how: { removes: boolean; fresh: boolean }): void;
  /** A box drawn from one corner to the other; `isDone` when the button is up, null when it is left. */
  drag(from: Point, to: Point | null, isDone: boolean): void;
  /** A stroke of the brush so far. */
  stroke(path: readonly Point[], isDone: boolean): void;
  pan(dx: number, dy: number): void;
  zoom(factor: number, at: Point): void;
  /** Whether a drag with the left button is a stroke, and whether one pans. */
  readonly tool: "click" | "brush";
  readonly isPanning: boolean;
}

/** A drag begins beyond so many CSS pixels. */
const THRESHOLD = 5;
const WHEEL_PIXELS_A_LINE = 16;

type Mode = "none" | "press" | "drag" | "stroke" | "pan" | "pinch";

export class Gestures {
  #mode: Mode = "none";
  #from: Point = { x: 0, y: 0 };
  #last: Point = { x: 0, y: 0 };
  #path: Point[] = [];
  #button = 0;
  /** Where the canvas lies on the page; asking at each move would lay out the page each time. */
  #corner: Point | null = null;
  readonly #fingers = new Map<number, Point>();

  constructor(
    private readonly element: HTMLElement,
    private readonly heard: Heard,
  ) {
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    element.addEventListener("pointerup", (event) => this.#up(event));
    element.addEventListener("pointercancel", (event) => this.#cancel(event));
    element.addEventListener("pointerenter", () => (this.#corner = null));
    new ResizeObserver(() => (this.#corner = null)).observe(element);
    element.addEventListener("pointerleave", () => this.#mode === "none" && heard.hover(null));
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    element.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** Leaves a box or stroke that was begun; says whether there was one. */
  leave(): boolean {
    const mode = this.#mode;
    if (mode !== "drag" && mode !== "stroke") return false;
    this.#mode = "none";
    if (mode === "drag") this.heard.drag(this.#from, null, true);
    else this.heard.stroke([], true);
    return true;
  }

  #at(event: MouseEvent): Point {
    if (this.#corner === null || event.type !== "pointermove") {
      const { left, top } = this.element.getBoundingClientRect();
      this.#corner = { x: left, y: top };
    }
    return { x: event.clientX - this.#corner.x, y: event.clientY - this.#corner.y };
  }

  #down(event: PointerEvent): void {
    const at = this.#at(event);
    if (event.target instanceof Element && event.target.closest("button") !== null) return;
    this.element.focus({ preventScroll: true });
    if (event.pointerType === "touch") {
      this.#fingers.set(event.pointerId, at);
      if (this.#fingers.size === 2) {
        this.leave();
        this.#mode = "pinch";
        return;
      }
    }
    if (this.#mode !== "none") return;
    this.element.setPointerCapture(event.pointerId);
    [this.#from, this.#last, this.#button] = [at, at, event.button];
    if (event.button === 1 || (event.button === 0 && this.heard.isPanning)) {
      event.preventDefault();
      this.#mode = "pan";
      // What the pointer showed would be drawn anew at each step.
      this.heard.hover(null);
    } else if (event.button === 0 && this.heard.tool === "brush") {
      this.#mode = "stroke";
      this.#path = [at];
      this.heard.stroke(this.#path, false);
    } else this.#mode = "press";
  }

  #move(event: PointerEvent): void {
    const at = this.#at(event);
    if (this.#mode === "pinch") return this.#pinch(event.pointerId, at);
    if (this.#mode === "pan") this.heard.pan(at.x - this.#last.x, at.y - this.#last.y);
    if (this.#mode === "stroke") this.#strokes(event);
    if (this.#mode === "press" && this.#button === 0 && this.#isFar(at)) this.#mode = "drag";
    if (this.#mode === "drag") this.heard.drag(this.#from, at, false);
    if (this.#mode === "none" && event.pointerType !== "touch") this.heard.hover(at);
    this.#last = at;
  }

  /** Every place between two frames, so that fast strokes stay round. */
  #strokes(event: PointerEvent): void {
    const all = event.getCoalescedEvents();
    this.#path.push(...(all.length > 0 ? all : [event]).map((one) => this.#at(one)));
    this.heard.stroke(this.#path, false);
  }

  #up(event: PointerEvent): void {
    const at = this.#at(event);
    this.#fingers.delete(event.pointerId);
    const mode = this.#mode;
    if (mode === "pinch") {
      if (this.#fingers.size === 0) this.#mode = "none";
      return;
    }
    if (event.button !== this.#button) return;
    this.#mode = "none";
    if (mode === "drag") this.heard.drag(this.#from, at, true);
    if (mode === "stroke") this.heard.stroke(this.#path, true);
    if (mode === "press") {
      this.heard.click(this.#from, {
        removes: event.button === 2 || event.shiftKey,
        fresh: event.altKey,
      });
    }
  }

  #cancel(event: PointerEvent): void {
    this.#fingers.delete(event.pointerId);
    if (!this.leave()) this.#mode = "none";
  }

  #isFar(at: Point): boolean {
    return Math.hypot(at.x - this.#from.x, at.y - this.#from.y) > THRESHOLD;
  }

  #pinch(finger: number, at: Point): void {
    const [other] = [...this.#fingers].filter(([id]) => id !== finger).map(([, place]) => place);
    const before = this.#fingers.get(finger);
    if (other === undefined || before === undefined) return;
    const middle = (place: Point): Point => ({
      x: (place.x + other.x) / 2,
      y: (place.y + other.y) / 2,
    });
    const apart = (place: Point): number =>
      Math.max(1, Math.hypot(place.x - other.x, place.y - other.y));
    this.heard.pan(middle(at).x - middle(before).x, middle(at).y - middle(before).y);
    this.heard.zoom(apart(at) / apart(before), middle(at));
    this.#fingers.set(finger, at);
  }

  /** The wheel zooms; so does a pinch on a touchpad, which browsers send as the wheel with Ctrl. */
  #wheel(event: WheelEvent): void {
    event.preventDefault();
    const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? WHEEL_PIXELS_A_LINE : 1;
    const speed = event.ctrlKey ? 0.01 : 0.0016;
    const steps = Math.max(-400, Math.min(400, event.deltaY * pixels));
    this.heard.zoom(Math.exp(-steps * speed), this.#at(event));
  }
}
