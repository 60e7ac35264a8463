/** Colours that people with any kind of colour blindness tell apart (after Okabe and Ito). */

import { Pattern, type Look } from "./labelmap";

type Rgb = readonly [number, number, number];

const COLOURS: readonly Rgb[] = [
  [230, 159, 0],
  [86, 180, 233],
  [0, 158, 115],
  [240, 228, 66],
  [64, 140, 220],
  [224, 104, 30],
  [214, 134, 178],
];

/** What a mask's outline says: a proposal waits, stands, was corrected or added, or was refused. */
export type MaskState = "undecided" | "accepted" | "rejected" | "edited" | "added";

const FILL: Record<MaskState, number> = {
  undecided: 0.2,
  accepted: 0.34,
  edited: 0.34,
  added: 0.34,
  rejected: 0,
};
const PATTERN: Record<MaskState, Pattern> = {
  undecided: Pattern.dashed,
  accepted: Pattern.solid,
  edited: Pattern.hatched,
  added: Pattern.hatched,
  rejected: Pattern.dotted,
};

/** What people call each state. */
export const STATE_NAMES: Record<MaskState, string> = {
  undecided: "to decide",
  accepted: "accepted",
  rejected: "rejected",
  edited: "edited",
  added: "added",
};

const looks = new Map<string, Look>();

/** The look of mask number `number`, `faint` when a filter leaves it out; equal for equal arguments. */
export function lookOf(number: number, state: MaskState, faint = false): Look {
  const index = number % COLOURS.length;
  const key = `${index} ${state} ${faint}`;
  let look = looks.get(key);
  if (look === undefined) {
    const rgb = COLOURS[index]!;
    look = faint
      ? { fill: packed(rgb, 0.04), line: packed(rgb, 0.45), pattern: Pattern.solid }
      : { fill: packed(rgb, FILL[state]), line: packed(rgb, 1), pattern: PATTERN[state] };
    looks.set(key, look);
  }
  return look;
}

/** The colour of mask number `number` for style sheets. */
export function cssColour(number: number): string {
  const [red, green, blue] = COLOURS[number % COLOURS.length]!;
  return `rgb(${red} ${green} ${blue})`;
}

export function packed([red, green, blue]: Rgb, alpha: number): number {
  return ((Math.round(alpha * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
