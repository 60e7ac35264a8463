/** The predictor that decodes in the browser and turns to the server for what fails there. */

import type { Answered, Prompt } from "../core/types";
import { Superseded, type PredictOptions, type Predictor, type Subject } from "./predictor";

export class WithServerBehind implements Predictor {
  /** Whether the browser has the item. */
  private opening: Promise<boolean> = Promise.resolve(false);

  constructor(
    private readonly browser: Predictor,
    private readonly server: Predictor,
  ) {}

  async open(item: Subject): Promise<void> {
    await this.server.open(item);
    this.opening = item.decoder ? this.tried(this.browser.open(item)) : Promise.resolve(false);
    await this.opening;
  }

  async preload(item: Subject): Promise<void> {
    if (item.decoder) await this.tried(this.browser.preload(item));
  }

  async predict(prompt: Prompt, options: PredictOptions): Promise<Answered[]> {
    if (await this.opening) {
      try {
        return await this.browser.predict(prompt, { ...options, previous: ofBrowser(options) });
      } catch (error) {
        if (error instanceof Superseded) throw error;
        console.warn("maskloop: the server answers instead of the browser:", error);
      }
    }
    return this.server.predict(prompt, { ...options, previous: ofServer(options) });
  }

  close(): void {
    this.browser.close();
    this.server.close();
  }

  private tried(opened: Promise<void>): Promise<boolean> {
    return opened.then(
      () => true,
      (error: unknown) => {
        console.warn("maskloop: the browser cannot decode this item:", error);
        return false;
      },
    );
  }
}

/**
 * The browser's tokens are positive, the server's negative. Logits of the other side are none: the
 * prompt, which has all clicks, then starts from the whole image.
 */
function ofBrowser({ previous }: PredictOptions): number | null {
  return previous !== null && previous > 0 ? previous : null;
}

function ofServer({ previous }: PredictOptions): number | null {
  return previous !== null && previous < 0 ? previous : null;
}
