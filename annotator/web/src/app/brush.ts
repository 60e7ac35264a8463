/** What a round brush covers: the pixels whose middles lie within its radius of its path. */

import { difference, RunsBuilder, union } from "../core/mask";
import type { Runs } from "../core/types";
import type { Point } from "./view";

/** The mask with a stroke added, or taken away. `radius` in pixels of the picture. */
export function brushed(mask: Runs, path: readonly Point[], radius: number, adds: boolean): Runs {
  const stroke = strokeOf(path, radius, mask.height, mask.width);
  return adds ? union(mask, stroke) : difference(mask, stroke);
}

/** All that a brush covers on its way. */
export function strokeOf(
  path: readonly Point[],
  radius: number,
  height: number,
  width: number,
): Runs {
  // Halves first, so that no union is much larger than what it joins.
  const parts = path.map((to, index) =>
    capsule(path[Math.max(0, index - 1)]!, to, radius, height, width),
  );
  while (parts.length > 1) {
    const half = Math.ceil(parts.length / 2);
    for (let index = 0; index + half < parts.length; index++) {
      parts[index] = union(parts[index]!, parts[index + half]!);
    }
    parts.length = half;
  }
  return parts[0] ?? new RunsBuilder(height, width).build();
}

/** All that a round brush covers on a straight way from `a` to `b`. */
function capsule(a: Point, b: Point, radius: number, height: number, width: number): Runs {
  const builder = new RunsBuilder(height, width);
  const first = Math.max(0, Math.ceil(Math.min(a.x, b.x) - radius - 0.5));
  const last = Math.min(width - 1, Math.floor(Math.max(a.x, b.x) + radius - 0.5));
  for (let column = first; column <= last; column++) {
    const span = spanAt(column + 0.5, a, b, radius);
    if (span === null) continue;
    const top = Math.max(0, Math.ceil(span[0] - 0.5));
    const bottom = Math.min(height, Math.floor(span[1] - 0.5) + 1);
    if (top < bottom) builder.add(column * height + top, column * height + bottom);
  }
  return builder.build();
}

/** The part of the vertical line at `x` within `radius` of the way; a capsule is convex. */
function spanAt(x: number, a: Point, b: Point, radius: number): [number, number] | null {
  const spans = [discSpan(x, a, radius), discSpan(x, b, radius), bandSpan(x, a, b, radius)].filter(
    (s) => s !== null,
  );
  if (spans.length === 0) return null;
  return [Math.min(...spans.map((span) => span[0])), Math.max(...spans.map((span) => span[1]))];
}

function discSpan(x: number, middle: Point, radius: number): [number, number] | null {
  const squared = radius ** 2 - (x - middle.x) ** 2;
  return squared < 0 ? null : [middle.y - Math.sqrt(squared), middle.y + Math.sqrt(squared)];
}

/** Where the line crosses the rectangle along the way. */
function bandSpan(x: number, a: Point, b: Point, radius: number): [number, number] | null {
  const length = Math.hypot(b.x - a.x, b.y - a.y);
  if (length === 0) return null;
  const [nx, ny] = [(-(b.y - a.y) / length) * radius, ((b.x - a.x) / length) * radius];
  const corners = [
    { x: a.x + nx, y: a.y + ny },
    { x: b.x + nx, y: b.y + ny },
    { x: b.x - nx, y: b.y - ny },
    { x: a.x - nx, y: a.y - ny },
  ];
  const crossed = corners.flatMap((from, index) => crossing(x, from, corners[(index + 1) % 4]!));
  return crossed.length === 0 ? null : [Math.min(...crossed), Math.max(...crossed)];
}

function crossing(x: number, from: Point, to: Point): number[] {
  const [low, high] = from.x < to.x ? [from, to] : [to, from];
  if (x < low.x || x > high.x || low.x === high.x) return [];
  return [low.y + ((high.y - low.y) * (x - low.x)) / (high.x - low.x)];
}
