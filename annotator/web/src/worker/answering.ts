/** What the worker does with each ask. */

import { Kept } from "../core/kept";
import type { Answered } from "../core/types";
import { Decoders } from "./decoders";
import type { FetchBytes } from "./fetching";
import { OpenItem } from "./open_item";
import type { Subject } from "./predictor";
import type { Ask, PredictAsk, Reply } from "./protocol";

export type Send = (reply: Reply, transfer: ArrayBuffer[]) => void;

/** The one that is worked on, the next, and the one before, should somebody go back. */
const MOST_ITEMS = 3;

export class Answering {
  private readonly decoders: Decoders;
  private readonly items = new Kept<OpenItem>(MOST_ITEMS);
  private readonly running = new Map<number, AbortController>();

  constructor(
    private readonly send: Send,
    private readonly fetchBytes: FetchBytes,
  ) {
    this.decoders = new Decoders(fetchBytes);
  }

  /** Resolves when the last reply was sent. */
  async hear(ask: Ask): Promise<void> {
    if (ask.kind === "abort") {
      this.running.get(ask.id)?.abort();
      return;
    }
    const { id } = ask;
    try {
      if (ask.kind === "predict") await this.predict(ask);
      else {
        await this.opened(ask.item);
        this.send({ kind: "done", id }, []);
      }
    } catch (error) {
      this.send({ kind: "failed", id, message: String(error) }, []);
    }
  }

  private opened(item: Subject): Promise<OpenItem> {
    const { decoder } = item;
    if (!decoder) throw new Error(`item ${item.item_id}: has no decoder`);
    return this.items.find(item.item_id, () =>
      OpenItem.open(item, this.decoders.of(decoder), this.fetchBytes),
    );
  }

  private async predict(ask: PredictAsk): Promise<void> {
    const abort = new AbortController();
    this.running.set(ask.id, abort);
    try {
      const item = await this.items.get(ask.itemId);
      const first = (answers: Answered[]) => this.sendAnswers("first", ask.id, answers);
      this.sendAnswers("answers", ask.id, await item.answer(ask, abort.signal, first));
    } finally {
      this.running.delete(ask.id);
    }
  }

  private sendAnswers(kind: "first" | "answers", id: number, answers: Answered[]): void {
    const transfer = answers.flatMap(({ mask }) => [mask.starts.buffer, mask.ends.buffer]);
    this.send({ kind, id, answers }, transfer);
  }
}
