/**
 * Answers to prompts on one image: of small objects those of a closer look, where the model answers
 * the same prompt again, with its first answer as the mask prompt (engine/model/interactive.py).
 */

import { windowAround } from "./closer_look";
import { type Decode, toFrame } from "./decoder";
import type { Embedding } from "./embedding";
import { Answer, Look, sameWindow } from "./look";
import { clip } from "./rounding";
import type { Box, Prompt, Window } from "./types";
import type { CloserLookSettings } from "./wire";

/** The embedding of a window; `first`: the answers to show while it is on its way. */
export type Embed = (window: Window, first: readonly Answer[]) => Promise<Embedding>;

export interface Asked {
  prompt: Prompt;
  /** An earlier answer on the same image to go on from. */
  previous: Answer | null;
  /** Three answers (whole, part, subpart) instead of one. */
  multimask: boolean;
}

export class InteractivePredictor {
  private readonly whole: Look;

  constructor(
    private readonly decode: Decode,
    private readonly closerLook: CloserLookSettings | null,
    embedding: Embedding,
  ) {
    this.whole = Look.whole(embedding);
  }

  async answer({ prompt, previous, multimask }: Asked, embed: Embed): Promise<Answer[]> {
    const exact = inFloat32(prompt);
    if (!previous) {
      const first = await this.answers(this.whole, exact, null, multimask);
      return this.closer(first, exact, embed);
    }
    const look = await this.nextLook(exact, previous, embed);
    const again = await this.answers(look, exact, previous, multimask);
    return look.isWhole ? this.closer(again, exact, embed) : again;
  }

  /** That of the answer, or where its window does not hold prompt and answer a wider one. */
  private async nextLook(prompt: Prompt, previous: Answer, embed: Embed): Promise<Look> {
    const box = around([previous.box, ...boxesOf(prompt)]);
    if (previous.look.isWhole || previous.look.holds(box)) return previous.look;
    return this.lookAt(box, (window) => embed(window, []));
  }

  /** The answers seen closer, if that is worth it. */
  private async closer(found: Answer[], prompt: Prompt, embed: Embed): Promise<Answer[]> {
    const best = found.reduce((most, answer) => (answer.iou > most.iou ? answer : most));
    if (!this.closerLook || !(best.area < this.closerLook.max_area)) return found;
    const box = around([best.box, ...boxesOf(prompt)]);
    const look = await this.lookAt(box, (window) => embed(window, found));
    if (look.isWhole) return found;
    const nearer: Answer[] = [];
    for (const old of found) {
      // A whole that does not fit would be cut.
      const fits = look.holds(old.box ?? NOWHERE);
      nearer.push(fits ? (await this.answers(look, prompt, old, false))[0]! : old);
    }
    return nearer;
  }

  private async lookAt(box: Box, embed: (window: Window) => Promise<Embedding>): Promise<Look> {
    const { imageHw } = this.whole;
    const window = this.closerLook && windowAround(this.closerLook, box, imageHw);
    if (!window || sameWindow(window, this.whole.window)) return this.whole;
    return new Look(window, imageHw, await embed(window));
  }

  private async answers(
    look: Look,
    prompt: Prompt,
    previous: Answer | null,
    multimask: boolean,
  ): Promise<Answer[]> {
    const { embedding } = look;
    const logits = previous && previous.seenIn(look);
    const asked = toFrame(look.moved(prompt), logits, embedding.frame);
    const found = await this.decode(embedding, asked);
    const [from, to] = multimask ? [1, found.logits.length] : [0, 1];
    return found.logits
      .slice(from, to)
      .map((one, index) => new Answer(one, clip(found.iou[from + index]!, 0, 1), look));
  }
}

const NOWHERE: Box = [0, 0, 0, 0];

/** Positions as the server computes with them. */
function inFloat32({ clicks, box }: Prompt): Prompt {
  const { fround } = Math;
  return {
    clicks: clicks.map(({ x, y, label }) => ({ x: fround(x), y: fround(y), label })),
    box: box && [fround(box[0]), fround(box[1]), fround(box[2]), fround(box[3])],
  };
}

/** Around each click of a prompt, and its box. */
function boxesOf({ clicks, box }: Prompt): Box[] {
  const boxes: Box[] = clicks.map(({ x, y }) => [x, y, x, y]);
  return box ? [box, ...boxes] : boxes;
}

/** Around all boxes but those of nothing. */
function around(boxes: readonly (Box | null)[]): Box {
  const real = boxes.filter((box): box is Box => box !== null && box.some((value) => value !== 0));
  if (real.length === 0) return NOWHERE;
  return [
    Math.min(...real.map((box) => box[0])),
    Math.min(...real.map((box) => box[1])),
    Math.max(...real.map((box) => box[2])),
    Math.max(...real.map((box) => box[3])),
  ];
}
