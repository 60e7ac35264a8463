/**
 * COCO's compressed run-length codes, as strict as engine/rle.py.
 *
 * A number is cut into groups of 5 bits, lowest first; a sixth bit says that another group follows;
 * 48 is added to make it a character. From the fourth run on, a number is the difference to the run
 * before the last.
 */

import { RunsBuilder } from "./mask";
import type { Rle, Runs } from "./types";

const MAX_PIXELS = 2 ** 31 - 1;
const FIRST_CHARACTER = 48;
const MORE = 0x20;
const SIGN = 0x10;
/** So many groups of 5 bits, MORE values each, hold any run, or difference of runs, below MAX_PIXELS. */
const MAX_GROUPS = 7;

/** The runs of a code; throws for one that is malformed. */
export function decodeRle(rle: Rle): Runs {
  const [height, width] = rle.size;
  checkSize(height, width);
  const lengths = lengthsOf(rle.counts, height, width);
  const builder = new RunsBuilder(height, width);
  let place = 0;
  lengths.forEach((length, index) => {
    if (index % 2 === 1) builder.add(place, place + length);
    place += length;
  });
  return builder.build();
}

/** The code of a mask, the same characters as pycocotools writes. */
export function encodeRle(mask: Runs): Rle {
  const { height, width, starts, ends } = mask;
  const lengths: number[] = [];
  let place = 0;
  for (let run = 0; run < starts.length; run++) {
    const start = starts[run]!;
    const end = ends[run]!;
    // A column that is full to the bottom goes on at the top of the next.
    if (run > 0 && start === place) lengths[lengths.length - 1]! += end - start;
    else lengths.push(start - place, end - start);
    place = end;
  }
  if (place < height * width) lengths.push(height * width - place);
  return { size: [height, width], counts: written(lengths) };
}

function checkSize(height: number, width: number): void {
  const whole = Number.isInteger(height) && Number.isInteger(width);
  if (!whole || height < 1 || width < 1 || height * width > MAX_PIXELS) {
    throw new Error(
      `size: must be positive and below 2^31 pixels, but got ${height} x ${width}`,
    );
  }
}

/** Run lengths, background first, that fill the size. */
function lengthsOf(counts: string, height: number, width: number): number[] {
  const expected = height * width;
  const lengths = numbersOf(counts);
  let sum = 0;
  for (let index = 0; index < lengths.length; index++) {
    // Runs of one colour are counted on from each other; the first background run stands alone.
    if (index > 2) lengths[index]! += lengths[index - 2]!;
    const length = lengths[index]!;
    if (length < 0) {
      throw new Error("counts: must be runs of 0 or more pixels, but got a negative one");
    }
    sum += length;
  }
  if (sum !== expected) {
    throw new Error(
      `counts: must add up to ${expected} pixels (${height} x ${width}), but got ${sum}`,
    );
  }
  return lengths;
}

function numbersOf(counts: string): number[] {
  const groups = groupsOf(counts);
  const numbers: number[] = [];
  let value = 0;
  let scale = 1;
  for (const group of groups) {
    // Not by shifts, which end at 32 bits.
    value += (group & (MORE - 1)) * scale;
    scale *= MORE;
    if (scale > MORE ** MAX_GROUPS) {
      throw new Error("counts: must be runs shorter than 2^31, but got a longer one");
    }
    if (group & MORE) continue;
    numbers.push(group & SIGN ? value - scale : value);
    value = 0;
    scale = 1;
  }
  return numbers;
}

function groupsOf(counts: string): number[] {
  const groups = Array.from(counts, (letter) => letter.charCodeAt(0) - FIRST_CHARACTER);
  if (groups.some((group) => group < 0 || group >= 2 * MORE)) {
    throw new Error("counts: must have only the characters from '0' to 'o'");
  }
  // Of none, the last is not there.
  if ((groups.at(-1) ?? MORE) & MORE) {
    throw new Error("counts: must be a whole code, but got one that is cut off");
  }
  return groups;
}

function written(lengths: readonly number[]): string {
  const parts: string[] = [];
  lengths.forEach((length, index) => {
    let rest = index > 2 ? length - lengths[index - 2]! : length;
    let more = true;
    while (more) {
      const group = rest & (MORE - 1);
      rest >>= 5;
      more = group & SIGN ? rest !== -1 : rest !== 0;
      parts.push(String.fromCharCode(FIRST_CHARACTER + group + (more ? MORE : 0)));
    }
  });
  return parts.join("");
}
