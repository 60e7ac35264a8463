/** Answers kept in this browser until the server has them. */

import type { Submission } from "./messages";
import { begin, recent, type Answer, type History } from "./state";

/** An answer to an item under one lease. */
export interface Draft {
  readonly item_id: string;
  readonly lease_token: number;
  readonly file_name: string;
  readonly annotator: string;
  /** Made when work starts, so that every try to send it is the same request. */
  readonly idempotency_key: string;
  readonly answer: Answer;
  /** What undo and redo give after a reload; an older page kept none. */
  readonly past?: readonly Answer[];
  readonly future?: readonly Answer[];
  readonly seconds: number;
  /** When the item was opened, in milliseconds since 1970. */
  readonly opened_at: number;
  readonly saved_at: number;
  /** The finished answer, while it waits to be sent. */
  readonly submission: Submission | null;
  /** The lease is gone: the server takes this no more. */
  readonly lost: boolean;
}

const NAME = "maskloop";
const STORE = "drafts";

export class Drafts {
  private constructor(private readonly database: IDBDatabase) {}

  static async open(): Promise<Drafts> {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(STORE, { keyPath: ["item_id", "lease_token"] });
    };
    return new Drafts(await done(request));
  }

  /** Drafts of one person, oldest first. */
  async all(annotator: string): Promise<readonly Draft[]> {
    const found = await done<Draft[]>(this.#store("readonly").getAll());
    return found
      .filter((draft) => draft.annotator === annotator)
      .sort((a, b) => a.saved_at - b.saved_at);
  }

  async keep(draft: Draft): Promise<void> {
    await done(this.#store("readwrite").put(draft));
  }

  async drop(draft: Pick<Draft, "item_id" | "lease_token">): Promise<void> {
    await done(this.#store("readwrite").delete([draft.item_id, draft.lease_token]));
  }

  #store(mode: IDBTransactionMode): IDBObjectStore {
    return this.database.transaction(STORE, mode, { durability: "strict" }).objectStore(STORE);
  }
}

/** What a draft keeps of a history. */
export function keptOf(history: History): Required<Pick<Draft, "answer" | "past" | "future">> {
  const { past, present, future } = recent(history);
  return { past, answer: present, future };
}

/** The history that a draft goes on with, if there is one. */
export function restored(draft: Draft | null): History {
  if (draft === null) return begin();
  return {
    past: (draft.past ?? []).map(withoutLogits),
    present: withoutLogits(draft.answer),
    future: (draft.future ?? []).map(withoutLogits),
  };
}

/** Logits live no longer than the page that made them. */
function withoutLogits(answer: Answer): Answer {
  const making = answer.making;
  if (making === null) return answer;
  return {
    ...answer,
    making: { ...making, choices: making.choices.map((choice) => ({ ...choice, token: null })) },
  };
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("IndexedDB failed"));
  });
}
