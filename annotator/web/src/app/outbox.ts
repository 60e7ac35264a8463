/** Sends finished answers until the server has them, through every kind of bad weather. */

import { lighter } from "./answer";
import { isPassing, isStatus, Refused, type Api } from "./api";
import type { Draft } from "./drafts";

/** What became of an answer that was sent. */
export type Outcome =
  | { readonly kind: "sent" }
  /** Not yet: `error` says why; it is tried again in `inS` seconds. */
  | { readonly kind: "waits"; readonly error: Error; readonly inS: number }
  | { readonly kind: "signed out" }
  | { readonly kind: "lost"; readonly error: Refused }
  | { readonly kind: "refused"; readonly error: Refused };

const FIRST_S = 1;
const LONGEST_S = 30;

/** How long to wait before try number `tries` (1 the first again). */
export function pauseS(tries: number, error: Error): number {
  const asked = error instanceof Refused ? error.retryAfterS : null;
  return Math.max(asked ?? 0, Math.min(LONGEST_S, FIRST_S * 2 ** (tries - 1)));
}

/** Sends one answer; resolves at the first outcome that is not "waits", each of which is told. */
export async function send(
  api: Api,
  draft: Draft,
  told: (outcome: Outcome) => void,
  stopped: AbortSignal,
): Promise<Outcome> {
  for (let tries = 1; ; tries++) {
    const outcome = await attempt(api, draft, tries);
    told(outcome);
    if (outcome.kind !== "waits" || stopped.aborted) return outcome;
    await pause(outcome.inS, stopped);
    if (stopped.aborted) return outcome;
  }
}

async function attempt(api: Api, draft: Draft, tries: number): Promise<Outcome> {
  try {
    await put(api, draft);
    return { kind: "sent" };
  } catch (error) {
    if (isPassing(error))
      return { kind: "waits", error: error as Error, inS: pauseS(tries, error as Error) };
    if (isStatus(error, 401)) return { kind: "signed out" };
    if (isStatus(error, 409) || isStatus(error, 404)) return { kind: "lost", error };
    if (isStatus(error, 500)) return { kind: "waits", error, inS: pauseS(tries, error) };
    if (error instanceof Refused) return { kind: "refused", error };
    throw error;
  }
}

async function put(api: Api, draft: Draft): Promise<void> {
  const submission = draft.submission;
  if (submission === null) throw new Error("a draft must be finished before it is sent");
  try {
    await api.submit(draft, draft.idempotency_key, submission);
  } catch (error) {
    if (!isStatus(error, 413)) throw error;
    await api.submit(draft, draft.idempotency_key, lighter(submission));
  }
}

/** Ends after `seconds`, or earlier when the network is back or somebody asks. */
function pause(seconds: number, stopped: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      window.removeEventListener("online", end);
      window.removeEventListener(TRY_NOW, end);
      stopped.removeEventListener("abort", end);
      resolve();
    };
    const timer = window.setTimeout(end, seconds * 1000);
    window.addEventListener("online", end);
    window.addEventListener(TRY_NOW, end);
    stopped.addEventListener("abort", end);
  });
}

const TRY_NOW = "maskloop:try-now";

/** Ends the waiting of whatever waits. */
export function tryNow(): void {
  window.dispatchEvent(new Event(TRY_NOW));
}
