/** One tab of this browser works at a time; another may take over, once the first has saved. */

const TAKE = "take";
const SAVED_WITHIN_MS = 1500;

export class Tab {
  readonly #channel: BroadcastChannel;
  #release: (() => void) | null = null;

  /** `leave` saves and stops the work here: another tab goes on with it. */
  constructor(
    private readonly name: string,
    leave: () => Promise<void>,
  ) {
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = (event: MessageEvent<unknown>) => {
      if (event.data === TAKE && this.#release !== null) void leave().then(() => this.#release?.());
    };
  }

  /** Whether this tab has the work now; false while another tab has it. */
  enter(): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const options: LockOptions = { ifAvailable: true };
      this.#hold(options, resolve).catch(reject);
    });
  }

  /** Takes the work from the other tab. */
  take(): Promise<boolean> {
    this.#channel.postMessage(TAKE);
    return new Promise((resolve, reject) => {
      const signal = AbortSignal.timeout(SAVED_WITHIN_MS);
      this.#hold({ signal }, resolve)
        // A tab that hangs cannot save any more.
        .catch(() => this.#hold({ steal: true }, resolve))
        .catch(reject);
    });
  }

  async #hold(options: LockOptions, got: (has: boolean) => void): Promise<void> {
    await navigator.locks.request(this.name, options, (lock) => {
      got(lock !== null);
      return lock === null ? undefined : new Promise<void>((resolve) => (this.#release = resolve));
    });
    this.#release = null;
  }
}
