/** The seconds a person really works: the page is visible, and something was done this minute. */

/** Longer pauses count as this much. */
export const IDLE_S = 60;

export class WorkTime {
  #counted: number;
  #since: number | null;

  /** `now` gives seconds and never goes back; `counted` were worked before, as a draft says. */
  constructor(
    private readonly now: () => number,
    counted = 0,
    visible = true,
  ) {
    this.#counted = counted;
    this.#since = visible ? now() : null;
  }

  /** The person did something. */
  touch(): void {
    if (this.#since === null) return;
    this.#counted = this.seconds;
    this.#since = this.now();
  }

  hide(): void {
    this.touch();
    this.#since = null;
  }

  show(): void {
    if (this.#since === null) this.#since = this.now();
  }

  get seconds(): number {
    if (this.#since === null) return this.#counted;
    return this.#counted + Math.min(IDLE_S, this.now() - this.#since);
  }
}
