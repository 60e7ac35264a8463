/** The page's side of the worker that decodes prompts in the browser. */

import type { Answered, Prompt } from "../core/types";
import type { PredictOptions, Predictor, Subject } from "./predictor";
import type { Ask, Reply } from "./protocol";
import { Turns } from "./turns";

interface Waiting {
  resolve(answers: Answered[]): void;
  reject(reason: Error): void;
  first(answers: Answered[]): void;
}

/** Like Omit, but of each of several kinds. */
type WithoutId<T> = T extends unknown ? Omit<T, "id"> : never;

export class BrowserPredictor implements Predictor {
  private worker: Worker | null = null;
  private item: Subject | null = null;
  private turns = new Turns();
  private waiting = new Map<number, Waiting>();
  private lastId = 0;

  async open(item: Subject): Promise<void> {
    this.turns.clear();
    this.item = item;
    await this.ask({ kind: "open", item });
  }

  async preload(item: Subject): Promise<void> {
    await this.ask({ kind: "preload", item });
  }

  predict(prompt: Prompt, options: PredictOptions): Promise<Answered[]> {
    const { item } = this;
    if (!item) return Promise.reject(new Error("predict: must come after open"));
    const { previous, multimask, hover, onFirst } = options;
    return this.turns.ask(hover, (signal, linger) => {
      const first = (answers: Answered[]) => {
        linger();
        if (!signal.aborted) onFirst?.(answers);
      };
      const asked = { prompt, previous, multimask, hover };
      return this.ask({ kind: "predict", itemId: item.item_id, ...asked }, { signal, first });
    });
  }

  close(): void {
    this.turns.clear();
    this.item = null;
    this.end(new Error("the predictor was closed"));
  }

  private ask(
    ask: WithoutId<Ask>,
    { signal, first }: { signal?: AbortSignal; first?: Waiting["first"] } = {},
  ): Promise<Answered[]> {
    this.worker ??= this.started();
    const { worker } = this;
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, first: first ?? (() => undefined) });
      signal?.addEventListener("abort", () => worker.postMessage({ kind: "abort", id }));
      worker.postMessage({ ...ask, id });
    });
  }

  private started(): Worker {
    const worker = new Worker(new URL("./decoder.worker.ts", import.meta.url), {
      type: "module",
      name: "decoder",
    });
    worker.onmessage = ({ data }: MessageEvent<Reply>) => this.hear(data);
    // A script that cannot be loaded, or an error that nobody caught: what waits would wait for ever.
    worker.onerror = ({ message }) => {
      if (this.worker === worker) this.end(new Error(`the decoder's worker failed: ${message}`));
    };
    return worker;
  }

  private hear(reply: Reply): void {
    const waiting = this.waiting.get(reply.id);
    if (!waiting) return;
    if (reply.kind === "first") return waiting.first(reply.answers);
    this.waiting.delete(reply.id);
    if (reply.kind === "failed") waiting.reject(new Error(reply.message));
    else waiting.resolve(reply.kind === "answers" ? reply.answers : []);
  }

  /** Without a worker, until somebody asks again. */
  private end(reason: Error): void {
    this.worker?.terminate();
    this.worker = null;
    const unanswered = [...this.waiting.values()];
    this.waiting.clear();
    for (const { reject } of unanswered) reject(reason);
  }
}
