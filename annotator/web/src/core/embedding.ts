/** The embedding of an image or of a window of it, as the server sends it. */

import { Frame } from "./frame";
import { parseSafetensors, type Tensor } from "./safetensors";

const HEADER_KEY = "embedding";

interface Header {
  encoder_id: string;
  original_hw: [height: number, width: number];
  side: number;
}

/** `tensors`: features (C, h, w) and, for models that have them, skip_2x and skip_4x. */
export interface Embedding {
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly frame: Frame;
  readonly encoderId: string;
}

/** Reads what engine/model/embedding.py writes; throws for anything else. */
export function parseEmbedding(file: ArrayBuffer): Embedding {
  const { tensors, metadata } = parseSafetensors(file);
  const text = metadata[HEADER_KEY];
  if (text === undefined || !tensors.has("features")) {
    throw new Error("embedding: must have features and their frame");
  }
  const header = JSON.parse(text) as Header;
  const frame = new Frame(header.original_hw, header.side);
  return { tensors, frame, encoderId: header.encoder_id };
}
