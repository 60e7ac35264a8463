/** One prompt at a time: what waits its turn, and what is overtaken. */

import { Superseded } from "./predictor";

/**
 * Work for one prompt. `signal`: nobody wants the answer any more; `linger`: from here on it only
 * waits for something far away, and any newer prompt may overtake it.
 */
export type Job<T> = (signal: AbortSignal, linger: () => void) => Promise<T>;

interface Turn {
  readonly hover: boolean;
  readonly abort: AbortController;
  lingers: boolean;
  start(): Promise<void>;
  overtake(): void;
}

/**
 * Prompts that people meant are answered in order and never dropped; of hovers only the newest is.
 * A hover that runs goes on while newer hovers come, so that a moving pointer sees answers.
 */
export class Turns {
  private running: Turn | null = null;
  private meant: Turn[] = [];
  private hover: Turn | null = null;

  /** The job's answer when its turn has come; rejects with `Superseded` when it is overtaken. */
  ask<T>(hover: boolean, job: Job<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.overtake(hover);
      const turn = newTurn(hover, job, resolve, reject);
      if (hover) this.hover = turn;
      else this.meant.push(turn);
      this.next();
    });
  }

  /** Drops all that waits or runs. */
  clear(): void {
    const dropped = [this.running, this.hover, ...this.meant];
    this.meant = [];
    this.hover = null;
    for (const turn of dropped) turn?.overtake();
  }

  private overtake(byHover: boolean): void {
    this.hover?.overtake();
    this.hover = null;
    const { running } = this;
    if (running?.hover && (!byHover || running.lingers)) running.overtake();
  }

  private next(): void {
    if (this.running) return;
    const turn = this.meant.shift() ?? this.hover;
    if (!turn) return;
    if (turn === this.hover) this.hover = null;
    this.running = turn;
    void turn.start().then(() => {
      this.running = null;
      this.next();
    });
  }
}

function newTurn<T>(
  hover: boolean,
  job: Job<T>,
  resolve: (answer: T) => void,
  reject: (reason: unknown) => void,
): Turn {
  const abort = new AbortController();
  const turn: Turn = {
    hover,
    abort,
    lingers: false,
    start: () => {
      const linger = () => {
        turn.lingers = true;
      };
      return job(abort.signal, linger).then(resolve, reject);
    },
    overtake: () => {
      reject(new Superseded());
      abort.abort();
    },
  };
  return turn;
}
