/** The predictor that asks the server for every mask. */

import { decodeRle } from "../core/rle";
import type { Answered, Prompt } from "../core/types";
import type { PredictedMask, PredictRequest } from "../core/wire";
import type { Api, PredictOptions, Predictor, Subject } from "./predictor";
import { Turns } from "./turns";

/** So many of an item's answers can be gone on from; as text, each takes tens of kilobytes. */
const MAX_KEPT = 256;

export class ServerPredictor implements Predictor {
  private item: Subject | null = null;
  private turns = new Turns();
  private kept = new Map<number, PredictedMask>();
  /** Counts down, so that these tokens are none of the browser's. */
  private lastToken = 0;

  constructor(private readonly api: Api) {}

  open(item: Subject): Promise<void> {
    this.turns.clear();
    this.kept.clear();
    this.item = item;
    return Promise.resolve();
  }

  preload(): Promise<void> {
    return Promise.resolve();
  }

  predict(prompt: Prompt, options: PredictOptions): Promise<Answered[]> {
    const { item } = this;
    if (!item) return Promise.reject(new Error("predict: must come after open"));
    return this.turns.ask(options.hover, async (signal) => {
      const request = this.request(prompt, options);
      const answer = await this.api.predict(item.item_id, request, signal);
      return answer.masks.map((mask) => this.answered(mask));
    });
  }

  close(): void {
    this.turns.clear();
    this.kept.clear();
    this.item = null;
  }

  private request(prompt: Prompt, options: PredictOptions): PredictRequest {
    const earlier = options.previous === null ? undefined : this.kept.get(options.previous);
    return {
      points: prompt.clicks.map(({ x, y }) => [x, y]),
      labels: prompt.clicks.map(({ label }) => label),
      box: prompt.box,
      logits: earlier?.logits ?? null,
      window: earlier?.window ?? null,
      multimask: options.multimask,
    };
  }

  private answered(found: PredictedMask): Answered {
    const mask = decodeRle(found.segmentation);
    const token = --this.lastToken;
    this.kept.set(token, found);
    if (this.kept.size > MAX_KEPT) this.kept.delete(token + MAX_KEPT);
    return { mask, iou: found.predicted_iou, token };
  }
}
