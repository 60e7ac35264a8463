/** Writes a draft soon after each change, the newest only, and at once when the page goes away. */

import type { Draft, Drafts } from "./drafts";

const WITHIN_MS = 150;

export class Saver {
  #make: (() => Draft) | null = null;
  #timer: number | null = null;
  #writing: Promise<void> = Promise.resolve();

  /** `kept` hears of each draft that is safe, `failed` why one could not be kept, such as a full disk. */
  constructor(
    private readonly drafts: Drafts,
    private readonly kept: () => void,
    private readonly failed: (error: unknown) => void,
  ) {}

  /** The draft changed; `make` gives it as it is when it is written. */
  soon(make: () => Draft): void {
    this.#make = make;
    this.#timer ??= window.setTimeout(() => void this.flush(), WITHIN_MS);
  }

  /** Resolves when what changed so far is kept. */
  flush(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const draft = this.#make?.();
    this.#make = null;
    if (draft !== undefined) {
      this.#writing = this.#writing
        .then(() => this.drafts.keep(draft))
        .then(this.kept, this.failed);
    }
    return this.#writing;
  }

  /** Forgets what was not written, for a draft that ends. */
  async end(): Promise<void> {
    this.#make = null;
    await this.flush();
  }
}
