/**
 * The picture as one composited layer.
 *
 * It is drawn with a margin around what is in sight. While the view moves, the browser moves the
 * layer; it is drawn anew when the margin is used up, the scale changes or more of the picture came.
 */

import type { Picture } from "./picture";
import { marginOf, type Size, type View } from "./view";

interface Drawn {
  readonly view: View;
  /** How far the layer reaches beyond the canvas on each side, in CSS pixels. */
  readonly beyond: Size;
}

export class GroundLayer {
  #drawn: Drawn | null = null;
  readonly #context: CanvasRenderingContext2D;

  constructor(private readonly canvas: HTMLCanvasElement) {
    const context = canvas.getContext("2d");
    if (context === null) throw new Error("the browser gives no 2D canvas");
    this.#context = context;
  }

  /** The picture, if there is one, has to be drawn again. */
  invalidate(): void {
    this.#drawn = null;
  }

  /** Shows what is in sight. */
  follow(view: View, picture: Picture | null): void {
    if (this.#drawn === null || !holds(this.#drawn, view, picture)) this.#draw(view, picture);
    const { view: before, beyond } = this.#drawn!;
    const [x, y] = [view.x - before.x - beyond.width, view.y - before.y - beyond.height];
    this.canvas.style.transform = `translate(${x}px, ${y}px)`;
  }

  #draw(view: View, picture: Picture | null): void {
    const margin = marginOf(view);
    const whole = (length: number): number => Math.round(length * margin * view.dpr) / view.dpr;
    const beyond = { width: whole(view.width), height: whole(view.height) };
    const wide = {
      ...view,
      x: view.x + beyond.width,
      y: view.y + beyond.height,
      width: view.width + 2 * beyond.width,
      height: view.height + 2 * beyond.height,
    };
    this.#resize(wide);
    this.#context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    picture?.draw(this.#context, wide);
    this.#drawn = { view, beyond };
  }

  #resize({ width, height, dpr }: View): void {
    const [across, down] = [Math.round(width * dpr), Math.round(height * dpr)];
    if (this.canvas.width === across && this.canvas.height === down) return;
    this.canvas.width = across;
    this.canvas.height = down;
    this.canvas.style.width = `${across / dpr}px`;
    this.canvas.style.height = `${down / dpr}px`;
  }
}

/** Whether what was drawn shows all of the picture that is in sight now. */
function holds({ view: before, beyond }: Drawn, view: View, picture: Size | null): boolean {
  const same = (["scale", "width", "height", "dpr"] as const).every(
    (name) => before[name] === view[name],
  );
  if (!same) return false;
  if (picture === null) return true;
  const along = (was: number, is: number, room: number, reach: number, length: number): boolean => {
    const whole = was >= -reach && was + length * view.scale <= room + reach;
    return whole || Math.abs(is - was) <= reach;
  };
  return (
    along(before.x, view.x, view.width, beyond.width, picture.width) &&
    along(before.y, view.y, view.height, beyond.height, picture.height)
  );
}
