/** Long work in small slices between frames, so that panning stays fluid meanwhile. */

const BUSY_MS = 4;
const IDLE_MS = 24;

export class Slices {
  #work: Generator<void, void> | null = null;
  #timer: number | null = null;

  /** `isBusy` says whether the person is moving something, so that slices must be short. */
  constructor(private readonly isBusy: () => boolean) {}

  /** Does `work` instead of what is under way, its first slice now. */
  start(work: Generator<void, void>): void {
    this.stop();
    this.#work = work;
    this.#slice();
  }

  get isWorking(): boolean {
    return this.#work !== null;
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#work = null;
  }

  #slice(): void {
    this.#timer = null;
    const end = performance.now() + (this.isBusy() ? BUSY_MS : IDLE_MS);
    while (this.#work !== null) {
      if (this.#work.next().done === true) this.#work = null;
      else if (performance.now() > end) {
        this.#timer = window.setTimeout(() => this.#slice(), 0);
        return;
      }
    }
  }
}
