/** The predictor for all items of this page, usable before it is there. */

import {
  best,
  type Api,
  type PredictOptions,
  type Predictor,
  type Subject,
} from "../worker/client";
import type { Answered, Prompt } from "../core/types";

/** Begins as the first item is opened; what is asked earlier waits its turn. */
export class PagePredictor implements Predictor {
  #made: Promise<Predictor> | null = null;

  constructor(private readonly api: Api) {}

  async open(item: Subject): Promise<void> {
    if (this.#made === null) {
      this.#made = best(this.api, item);
      // The next item tries from the start.
      this.#made.catch(() => (this.#made = null));
      await this.#made;
    } else await (await this.#made).open(item);
  }

  async preload(item: Subject): Promise<void> {
    await (await this.#made)?.preload(item);
  }

  async predict(prompt: Prompt, options: PredictOptions): Promise<Answered[]> {
    const made = await this.#made;
    if (made === null) throw new Error("the model's part of this picture could not be fetched");
    return made.predict(prompt, options);
  }

  close(): void {
    void this.#made?.then((made) => made.close());
  }
}
