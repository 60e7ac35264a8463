/** The decoders of model versions, one for each side of frames. */

import type { Decode } from "../core/decoder";
import { Kept } from "../core/kept";
import type { Decoder } from "../core/wire";
import type { FetchBytes } from "./fetching";
import { OnnxDecoder } from "./onnx";

/** A version has two, and two versions may take turns while one replaces the other. */
const MOST_KEPT = 4;

export class Decoders {
  private readonly kept = new Kept<OnnxDecoder>(MOST_KEPT, (decoder) => void decoder.release());

  constructor(private readonly fetchBytes: FetchBytes) {}

  /** Decodes embeddings of all the version's sides; resolves when it is quick to answer. */
  async of(decoder: Decoder): Promise<Decode> {
    const sides = Object.entries(decoder.urls);
    const opened = sides.map(async ([side, url]): Promise<[number, OnnxDecoder]> => {
      const logitsSide = Math.floor((decoder.logits_side * Number(side)) / decoder.side);
      return [Number(side), await this.kept.find(url, () => this.opened(url, logitsSide))];
    });
    const bySide = new Map(await Promise.all(opened));
    return (embedding, prompt) => {
      const { side } = embedding.frame;
      const found = bySide.get(side);
      if (!found) throw new Error(`decoder ${decoder.version}: has none for frames of ${side}`);
      return found.decode(embedding, prompt);
    };
  }

  private async opened(url: string, logitsSide: number): Promise<OnnxDecoder> {
    const decoder = await OnnxDecoder.open(await this.fetchBytes(url), logitsSide);
    await decoder.warmUp();
    return decoder;
  }
}
