/** One item in the worker: its embedding, those of its windows, and the answers given on it. */

import type { Decode } from "../core/decoder";
import { type Embedding, parseEmbedding } from "../core/embedding";
import { InteractivePredictor } from "../core/interactive";
import { Kept } from "../core/kept";
import type { Answer } from "../core/look";
import type { Answered, Window } from "../core/types";
import { type FetchBytes, pause } from "./fetching";
import type { Subject } from "./predictor";
import type { PredictAsk } from "./protocol";

/** Half a megabyte each. */
const MOST_WINDOWS = 48;
/** 64 kilobytes each: more clicks than anybody makes on an image, and the last few hovers. */
const MOST_ANSWERS = 768;
const MOST_HOVERED = 12;
/** A hover that does not rest is not worth the encoding of a window on the server. */
const REST_MS = 40;

export class OpenItem {
  private static lastToken = 0;

  private readonly windows = new Kept<Embedding>(MOST_WINDOWS);
  private readonly meant = new Map<number, Answer>();
  private readonly hovered = new Map<number, Answer>();

  private constructor(
    private readonly path: string,
    private readonly predictor: InteractivePredictor,
    private readonly fetchBytes: FetchBytes,
  ) {}

  /** Resolves when prompts on the item can be answered. */
  static async open(
    item: Subject,
    decoding: Promise<Decode>,
    fetchBytes: FetchBytes,
  ): Promise<OpenItem> {
    const path = `/api/items/${encodeURIComponent(item.item_id)}/embedding`;
    const [decode, bytes] = await Promise.all([decoding, fetchBytes(path)]);
    const closerLook = item.decoder?.closer_look ?? null;
    const predictor = new InteractivePredictor(decode, closerLook, parseEmbedding(bytes));
    return new OpenItem(path, predictor, fetchBytes);
  }

  /** Answers a prompt; `first` hears the answers of the whole image when a window must be fetched. */
  async answer(
    { prompt, previous, multimask, hover }: PredictAsk,
    signal: AbortSignal,
    first: (answers: Answered[]) => void,
  ): Promise<Answered[]> {
    const earlier = previous === null ? null : this.earlier(previous);
    const embed = async (window: Window, whole: readonly Answer[]) => {
      if (!this.windows.has(window.join())) {
        if (whole.length > 0) first(this.kept(whole, hover));
        if (hover) await pause(REST_MS, signal);
      }
      return this.windows.find(window.join(), () => this.fetched(window, signal));
    };
    const answers = await this.predictor.answer({ prompt, previous: earlier, multimask }, embed);
    signal.throwIfAborted();
    return this.kept(answers, hover);
  }

  private async fetched(window: Window, signal: AbortSignal): Promise<Embedding> {
    return parseEmbedding(await this.fetchBytes(`${this.path}?window=${window.join()}`, signal));
  }

  /** One that was forgotten is none: the prompt, which has all clicks, starts anew. */
  private earlier(token: number): Answer | null {
    return this.meant.get(token) ?? this.hovered.get(token) ?? null;
  }

  private kept(answers: readonly Answer[], hover: boolean): Answered[] {
    const [room, most] = hover ? [this.hovered, MOST_HOVERED] : [this.meant, MOST_ANSWERS];
    return answers.map((answer) => {
      const token = ++OpenItem.lastToken;
      room.set(token, answer);
      for (const oldest of room.keys()) {
        if (room.size <= most) break;
        room.delete(oldest);
      }
      return { mask: answer.mask(), iou: answer.iou, token };
    });
  }
}
