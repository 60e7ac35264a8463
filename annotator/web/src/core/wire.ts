/** What the server sends and takes about one item, as annotator/messages.py says. */

import type { Box, Rle, Window } from "./types";

/** What is small, and how close to go (engine/model/closer_look.py). */
export interface CloserLookSettings {
  max_area: number;
  side: number;
  context: number;
  min_side: number;
  min_zoom: number;
}

/** How to decode clicks here. `urls`: side of a frame -> its ONNX graph. */
export interface Decoder {
  version: string;
  side: number;
  logits_side: number;
  closer_look: CloserLookSettings | null;
  urls: Readonly<Record<string, string>>;
}

/** A name that a model gives a mask, and how sure it is; nobody has said so yet. */
export interface Suggestion {
  category: string;
  score: number;
}

export interface Proposal {
  proposal_id: string;
  segmentation: Rle;
  bbox: readonly number[];
  area: number;
  predicted_iou: number;
  stability_score: number;
  point_coords: readonly (readonly number[])[];
  /** What it may show; older items have none. */
  suggestion?: Suggestion | null;
}

/** Tiles of `tile` pixels a side; level n is 2^-n of the full size, the last fits into one tile. */
export interface PictureLevels {
  levels: number;
  tile: number;
}

export interface WorkItem {
  item_id: string;
  image_id: string;
  file_name: string;
  height: number;
  width: number;
  model_version: string;
  run_id: string;
  iteration: number;
  proposals: readonly Proposal[];
  picture: PictureLevels;
  /** Whether the model finds masks by a text. */
  reads_text?: boolean;
  /** null: only the server decodes. */
  decoder: Decoder | null;
}

/** A low-resolution mask before its threshold, as the server packs it. */
export interface PackedLogits {
  size: [height: number, width: number];
  float16: string;
}

export interface PredictRequest {
  points: [x: number, y: number][];
  labels: (0 | 1)[];
  box: Box | null;
  logits: PackedLogits | null;
  window: Window | null;
  multimask: boolean;
}

export interface PredictedMask {
  segmentation: Rle;
  predicted_iou: number;
  logits: PackedLogits;
  window: Window | null;
}

/** What a text means on the picture, and how likely there is any of it. */
export interface FindAnswer {
  presence: number;
  masks: readonly { segmentation: Rle; score: number; predicted_iou: number }[];
}

export interface PredictAnswer {
  model_version: string;
  masks: readonly PredictedMask[];
}
