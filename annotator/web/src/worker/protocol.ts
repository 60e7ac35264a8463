/** What page and worker say to each other. Every ask but `abort` gets one last reply of its id. */

import type { Answered, Prompt } from "../core/types";
import type { Subject } from "./predictor";

export interface PredictAsk {
  kind: "predict";
  id: number;
  itemId: string;
  prompt: Prompt;
  previous: number | null;
  multimask: boolean;
  hover: boolean;
}

export type Ask =
  | { kind: "open" | "preload"; id: number; item: Subject }
  | PredictAsk
  | { kind: "abort"; id: number };

export type Reply =
  | { kind: "done"; id: number }
  /** The answers of the whole image, while a window is fetched; others follow. */
  | { kind: "first" | "answers"; id: number; answers: Answered[] }
  | { kind: "failed"; id: number; message: string };
