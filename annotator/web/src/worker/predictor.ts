/** What the page asks of whoever turns prompts into masks, here or on the server. */

import type { Answered, Prompt } from "../core/types";
import type { PredictAnswer, PredictRequest, WorkItem } from "../core/wire";

/** What a predictor must know of an item. */
export type Subject = Pick<
  WorkItem,
  "item_id" | "height" | "width" | "model_version" | "decoder"
>;

export interface PredictOptions {
  /** The token of an earlier answer on this item, to go on from. */
  previous: number | null;
  /** Whole, part and subpart instead of one mask. */
  multimask: boolean;
  /** A look ahead that a newer prompt may supersede; others are always answered, in order. */
  hover: boolean;
  /** Called with the answer of the whole image when a closer look has to be fetched first. */
  onFirst?: ((answers: Answered[]) => void) | undefined;
}

export interface Predictor {
  /**
   * Makes an item the one that `predict` is about; resolves once its embedding and its decoder are
   * there. Tokens of the item before end here.
   */
  open(item: Subject): Promise<void>;
  /** Fetches what `open` of that item will need. */
  preload(item: Subject): Promise<void>;
  /**
   * One mask, or whole, part and subpart with `multimask`. A hover that is overtaken rejects with
   * `Superseded`; what is asked before `open` resolves waits for it.
   */
  predict(prompt: Prompt, options: PredictOptions): Promise<Answered[]>;
  /** Ends the worker and forgets all. */
  close(): void;
}

/** What a predictor needs of the page's client of the server. */
export interface Api {
  predict(itemId: string, request: PredictRequest, signal: AbortSignal): Promise<PredictAnswer>;
}

/** A hover that a newer prompt has overtaken. */
export class Superseded extends Error {
  override name = "Superseded";

  constructor() {
    super("a newer prompt came first");
  }
}
