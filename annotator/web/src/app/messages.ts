/** What the server says and hears, as annotator/messages.py has it. */

import type { Box, Rle } from "../core/types";
import type { Proposal, Suggestion, WorkItem } from "../core/wire";

export type { Proposal, Suggestion, WorkItem };

export interface Session {
  readonly name: string | null;
  readonly role: "annotator" | "lead";
  readonly csrf_token: string | null;
  readonly sign_in_required: boolean;
  readonly categories: readonly string[];
}

export interface Counts {
  readonly ready: number;
  readonly leased: number;
  readonly done: number;
  readonly dead: number;
}

export interface Lease {
  readonly item: WorkItem;
  readonly lease_token: number;
  readonly expires_in_s: number;
  readonly heartbeat_s: number;
}

export interface LeaseAnswer {
  readonly lease: Lease | null;
  readonly counts: Counts;
}

/** One click, `at_s` seconds after the item was opened, and the mask shown after it. */
export interface LoggedClick {
  readonly x: number;
  readonly y: number;
  readonly label: 0 | 1;
  readonly at_s: number;
  readonly predicted_iou?: number;
  readonly segmentation?: Rle;
}

export interface SentDecision {
  readonly proposal_id: string;
  readonly action: "accepted" | "edited" | "rejected";
  readonly segmentation?: Rle;
  readonly clicks?: readonly LoggedClick[];
  readonly box?: Box;
  readonly category?: string;
  readonly drawn?: boolean;
}

export interface SentMask {
  readonly segmentation: Rle;
  readonly clicks: readonly LoggedClick[];
  readonly box?: Box;
  readonly text?: string;
  readonly predicted_iou?: number;
  readonly category?: string;
  readonly drawn: boolean;
}

/** The whole answer to an item. */
export interface Submission {
  readonly decisions: readonly SentDecision[];
  readonly added: readonly SentMask[];
  readonly complete: boolean;
  readonly seconds: number;
}
