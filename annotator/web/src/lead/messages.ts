/** What the server tells leads, as annotator/lead_messages.py has it. */

import type { Counts } from "../app/messages";

export interface Person {
  readonly name: string;
  readonly role: string;
  readonly items: number;
  readonly masks: number;
  readonly seconds_per_mask: number | null;
  readonly clicks_per_mask: number | null;
  readonly last_seen: string | null;
}

export interface Model {
  readonly model_version: string;
  readonly num_accepted: number;
  readonly num_edited: number;
  readonly num_rejected: number;
  readonly num_added: number;
  readonly share_accepted: number | null;
  readonly share_edited: number | null;
  readonly share_rejected: number | null;
}

export interface Holder {
  readonly annotator: string;
  readonly item_id: string;
  readonly file_name: string;
  readonly held_s: number;
  readonly expires_in_s: number;
}

export interface Hour {
  readonly starts_at: string;
  readonly items: number;
  readonly masks: number;
}

export interface SetAside {
  readonly item_id: string;
  readonly file_name: string;
  readonly model_version: string;
  readonly reason: string;
}

export interface Overview {
  readonly counts: Counts;
  readonly people: readonly Person[];
  readonly models: readonly Model[];
  readonly holders: readonly Holder[];
  readonly throughput: readonly Hour[];
  readonly set_aside: readonly SetAside[];
}

export interface Pin {
  readonly image_id: string;
  readonly file_name: string | null;
  readonly pinned_by: string;
  readonly pinned_at: string;
  readonly waits: boolean;
}

export interface Pins {
  readonly pins: readonly Pin[];
}

/** An item of one state; who has an open one is its `annotator`, and who did a done one. */
export interface ListedItem {
  readonly item_id: string;
  readonly image_id: string;
  readonly file_name: string;
  readonly kind: string;
  readonly is_pinned: boolean;
  readonly model_version: string;
  readonly annotator: string | null;
  readonly answered_at: string | null;
}

export interface ListedItems {
  readonly items: readonly ListedItem[];
  readonly next: string | null;
}
