/** What the mask decoder takes and gives, and prompts as it takes them (engine/model/prompts.py). */

import type { Embedding } from "./embedding";
import type { Frame } from "./frame";
import { clamped, type Logits } from "./logits";
import type { Prompt } from "./types";

const PADDING = -1;
const TOP_LEFT = 2;
const BOTTOM_RIGHT = 3;
const LOGIT_LIMIT = 16;

/** One prompt in frame pixels; points: (K, 2); labels: (K,); logits of an earlier answer or null. */
export interface DecoderPrompt {
  readonly points: Float32Array<ArrayBuffer>;
  readonly labels: readonly number[];
  readonly logits: Logits | null;
}

/** Mask 0 is for prompts that are not ambiguous, 1 to 3 are whole, part and subpart. */
export interface Decoded {
  readonly logits: readonly Logits[];
  /** The IoU that the model expects, which may pass 1 by a little. */
  readonly iou: readonly number[];
}

export type Decode = (embedding: Embedding, prompt: DecoderPrompt) => Promise<Decoded>;

/** A prompt whose positions are relative to the picture in `frame`. */
export function toFrame(prompt: Prompt, logits: Logits | null, frame: Frame): DecoderPrompt {
  const places: number[] = [];
  const labels: number[] = [];
  const place = (x: number, y: number, label: number) => {
    places.push(...frame.toFrame(x, y));
    labels.push(label);
  };
  for (const { x, y, label } of prompt.clicks) place(x, y, label);
  if (prompt.box) {
    place(prompt.box[0], prompt.box[1], TOP_LEFT);
    place(prompt.box[2], prompt.box[3], BOTTOM_RIGHT);
  } else {
    // As the original does: a prompt without a box ends in a point that is none.
    place(0, 0, PADDING);
  }
  return { points: new Float32Array(places), labels, logits: logits && clamped(logits, LOGIT_LIMIT) };
}
