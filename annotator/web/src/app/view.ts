/** Which part of the picture the canvas shows; values, and pure functions on them. */

import type { Box } from "../core/types";

/**
 * `scale` is CSS pixels a pixel of the picture; the picture's corner lies at (x, y) of the canvas,
 * which is `width` x `height`, all in CSS pixels. `dpr` is device pixels a CSS pixel.
 */
export interface View {
  readonly scale: number;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly dpr: number;
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

const MAX_SCALE = 40;
const MARGIN = 24;
/** At least so much of the picture stays in sight. */
const KEPT = 48;

/** Of a layer: beyond it the margin is given up, then sharpness. */
export const MOST_PIXELS = 9_000_000;
const LAYER_MARGIN = 0.15;

/** How far a layer reaches beyond the canvas on each side, as a share of it. */
export function marginOf(view: View): number {
  const visible = view.width * view.height * view.dpr ** 2;
  return Math.max(0, Math.min(LAYER_MARGIN, (Math.sqrt(MOST_PIXELS / visible) - 1) / 2));
}

/** All of the picture, as large as it goes, never above `largest`. */
export function fit(view: View, picture: Size, largest = 8): View {
  const room = {
    width: Math.max(1, view.width - 2 * MARGIN),
    height: Math.max(1, view.height - 2 * MARGIN),
  };
  const scale = Math.min(room.width / picture.width, room.height / picture.height, largest);
  return {
    ...view,
    scale,
    x: (view.width - picture.width * scale) / 2,
    y: (view.height - picture.height * scale) / 2,
  };
}

/** `factor` times as large, with the place under `at` (canvas, CSS pixels) where it is. */
export function zoomed(view: View, factor: number, at: Point, picture: Size): View {
  const smallest = Math.min(1, fit(view, picture).scale) / 4;
  const scale = Math.min(MAX_SCALE, Math.max(smallest, view.scale * factor));
  const ratio = scale / view.scale;
  const moved = {
    ...view,
    scale,
    x: at.x - (at.x - view.x) * ratio,
    y: at.y - (at.y - view.y) * ratio,
  };
  return kept(moved, picture);
}

/** Moved by CSS pixels, but never out of sight. */
export function panned(view: View, dx: number, dy: number, picture: Size): View {
  return kept({ ...view, x: view.x + dx, y: view.y + dy }, picture);
}

/** `box` of the picture in the middle, at least `smallest` CSS pixels large but no larger than fits. */
export function showing(view: View, box: Box, smallest: number, picture: Size): View {
  const side = Math.max(box[2] - box[0], box[3] - box[1], 1);
  const most = (0.8 * Math.min(view.width, view.height)) / side;
  const scale = Math.min(
    MAX_SCALE,
    Math.max(Math.min(view.scale, most), Math.min(smallest / side, most)),
  );
  const x = view.width / 2 - ((box[0] + box[2]) / 2) * scale;
  const y = view.height / 2 - ((box[1] + box[3]) / 2) * scale;
  return kept({ ...view, scale, x, y }, picture);
}

/** Whether `box` is wholly in sight and at least `smallest` CSS pixels large. */
export function isSeen(view: View, box: Box, smallest: number): boolean {
  const [low, high] = [
    onCanvas(view, { x: box[0], y: box[1] }),
    onCanvas(view, { x: box[2], y: box[3] }),
  ];
  const large = Math.max(high.x - low.x, high.y - low.y) >= smallest;
  return large && low.x >= 0 && low.y >= 0 && high.x <= view.width && high.y <= view.height;
}

/** Canvas, CSS pixels -> pixels of the picture. */
export function inPicture(view: View, point: Point): Point {
  return { x: (point.x - view.x) / view.scale, y: (point.y - view.y) / view.scale };
}

/** Pixels of the picture -> canvas, CSS pixels. */
export function onCanvas(view: View, point: Point): Point {
  return { x: point.x * view.scale + view.x, y: point.y * view.scale + view.y };
}

export function isInside(point: Point, picture: Size): boolean {
  return point.x >= 0 && point.y >= 0 && point.x < picture.width && point.y < picture.height;
}

/** Another size of canvas or density of screen, with the middle where it was. */
export function resized(view: View, size: Size, dpr: number): View {
  const dx = (size.width - view.width) / 2;
  const dy = (size.height - view.height) / 2;
  return { ...view, ...size, dpr, x: view.x + dx, y: view.y + dy };
}

function kept(view: View, picture: Size): View {
  const keep = (place: number, length: number, room: number): number =>
    Math.min(room - Math.min(KEPT, length), Math.max(Math.min(KEPT, length) - length, place));
  return {
    ...view,
    x: keep(view.x, picture.width * view.scale, view.width),
    y: keep(view.y, picture.height * view.scale, view.height),
  };
}

/** As it is drawn: its corner lies on device pixels, so that nothing blurs by half of one. */
export function snapped(view: View): View {
  return {
    ...view,
    x: Math.round(view.x * view.dpr) / view.dpr,
    y: Math.round(view.y * view.dpr) / view.dpr,
  };
}
