/** From item to item: lease, work, send, next; and what is said and done when that goes wrong. */

import { submissionOf } from "./answer";
import { isPassing, isStatus, Unreachable, type Api } from "./api";
import { banner, clearBanner } from "./banners";
import { keptOf, type Draft, type Drafts } from "./drafts";
import { saveAsFile } from "./files";
import { keepAlive } from "./heart";
import type { Counts, Lease, WorkItem } from "./messages";
import { pauseS, send, tryNow, type Outcome } from "./outbox";
import type { Saver } from "./saver";
import { messageOf, type Visit } from "./visit";

/** Where the course happens: the page. */
export interface Hall {
  readonly visit: Visit | null;
  /** A lease is there; `draft` is what was done on it before. */
  open(lease: Lease, draft: Draft | null): Promise<void>;
  /** Nothing to work on: says why. */
  close(title: string, note: string, isWaiting: boolean): void;
  counts(counts: Counts): void;
  /** This item will probably be next. */
  expect(item: WorkItem): void;
  /** `seconds` were worked on an item with `masks` masks that is sent now. */
  worked(seconds: number, masks: number): void;
  say(text: string): void;
}

const GO_ON = "Go on working: everything is kept in this browser.";
const LOOK_AGAIN_MS = 10_000;

export class Course {
  #stop = new AbortController();
  #recall = new AbortController();
  #timer: number | null = null;
  #sending: Draft | null = null;

  constructor(
    private readonly api: Api,
    private readonly drafts: Drafts,
    private readonly saver: Saver,
    private readonly annotator: string,
    private readonly hall: Hall,
  ) {
    // Heard of at once, not only at the next heartbeat; that ends the banner when all is well again.
    window.addEventListener("offline", () => {
      if (this.hall.visit !== null && this.#sending === null) {
        this.#noNetwork(new Unreachable(), GO_ON);
      }
    });
  }

  /** Sends what still waits to be sent, shows what was lost, then begins. */
  async begin(): Promise<void> {
    for (const draft of await this.drafts.all(this.annotator)) {
      if (draft.lost) this.#offer(draft);
      else if (draft.submission !== null) await this.#send(draft);
    }
    await this.next();
  }

  /** Stops here: another tab goes on. */
  async leave(): Promise<void> {
    this.#stop.abort();
    this.#clearTimer();
    await this.saver.flush();
  }

  /** Opens the next item, or says that nothing waits and looks again later. */
  async next(tries = 1): Promise<void> {
    this.#clearTimer();
    try {
      const { lease, counts } = await this.api.lease();
      clearBanner("network");
      this.hall.counts(counts);
      if (lease === null) this.#nothing(counts);
      else await this.#open(lease);
      await this.#findLost(lease?.item.item_id ?? null);
    } catch (error) {
      if (isStatus(error, 401)) return this.#signedOut();
      if (!isPassing(error)) throw error;
      const inS = pauseS(tries, error as Error);
      this.#noNetwork(error as Error, "The next picture opens as soon as it does.");
      this.#timer = window.setTimeout(() => void this.next(tries + 1), inS * 1000);
    }
  }

  /** The draft of an open visit as it is now. */
  draftOf(visit: Visit): Draft {
    return {
      item_id: visit.item.item_id,
      lease_token: visit.leaseToken,
      file_name: visit.item.file_name,
      annotator: this.annotator,
      idempotency_key: visit.key,
      ...keptOf(visit.history),
      seconds: visit.worked.seconds,
      opened_at: visit.openedAt,
      saved_at: Date.now(),
      submission: null,
      lost: false,
    };
  }

  /** Sends the answer; the next item opens once the server has it. Each proposal must be decided. */
  async submit(visit: Visit): Promise<void> {
    if (this.#sending !== null) return this.hall.say("This answer is on its way already.");
    const seconds = visit.worked.seconds;
    const submission = submissionOf(visit.item.proposals, visit.answer, seconds);
    const draft: Draft = { ...this.draftOf(visit), submission };
    await this.saver.end();
    await this.drafts.keep(draft);
    visit.seal("This answer is on its way. D takes it back while it waits.");
    if (await this.#send(draft)) {
      this.hall.worked(seconds, visit.numMade);
      this.#stop.abort();
      await this.next();
    }
  }

  /** Takes an answer back that could not be sent yet; says whether there was one. */
  async takeBack(visit: Visit): Promise<boolean> {
    if (this.#sending === null || this.#sending.item_id !== visit.item.item_id) return false;
    this.#recall.abort();
    visit.unseal();
    await this.drafts.keep(this.draftOf(visit));
    clearBanner("network");
    return true;
  }

  /** Leaves the item for later or for somebody else. */
  async skip(visit: Visit): Promise<void> {
    const held = { item_id: visit.item.item_id, lease_token: visit.leaseToken };
    try {
      await this.api.skip(held);
    } catch (error) {
      if (isStatus(error, 409) || isStatus(error, 404))
        return void (await this.#lose(this.draftOf(visit)));
      if (isStatus(error, 401)) return this.#signedOut();
      return this.hall.say(`Not skipped: ${messageOf(error)}.`);
    }
    this.#stop.abort();
    await this.saver.end();
    await this.drafts.drop(held);
    this.hall.say("Skipped; it waits for later or for somebody else.");
    await this.next();
  }

  /** Whether an answer waits to be sent. */
  get isSending(): boolean {
    return this.#sending !== null;
  }

  async #open(lease: Lease): Promise<void> {
    const { item_id } = lease.item;
    const kept = (await this.drafts.all(this.annotator)).filter(
      (draft) => draft.item_id === item_id,
    );
    const draft = kept.at(-1) ?? null;
    this.#stop.abort();
    this.#stop = new AbortController();
    await this.hall.open(lease, draft);
    for (const old of kept) await this.#rebound(old, lease.lease_token);
    if (draft !== null) this.hall.say("Your draft of this picture is back.");
    this.#beat(lease, this.#stop.signal);
    this.#peek();
  }

  /** A draft of an item that is held again: its content goes on under the lease there is now. */
  async #rebound(old: Draft, token: number): Promise<void> {
    const visit = this.hall.visit;
    if (visit !== null) await this.drafts.keep(this.draftOf(visit));
    if (old.lease_token !== token) await this.drafts.drop(old);
    clearBanner(bannerOf(old));
  }

  /** Unsent drafts of other items: people hold one item at a time, so those leases are gone. */
  async #findLost(open: string | null): Promise<void> {
    for (const draft of await this.drafts.all(this.annotator)) {
      if (draft.item_id !== open && draft.submission === null && !draft.lost)
        await this.#lose(draft);
    }
  }

  #peek(): void {
    // Without it the next item only opens a little later.
    this.api
      .peek()
      .then(({ item }) => item !== null && this.hall.expect(item))
      .catch(() => undefined);
  }

  #beat(lease: Lease, stopped: AbortSignal): void {
    const held = { item_id: lease.item.item_id, lease_token: lease.lease_token };
    keepAlive(
      this.api,
      held,
      lease.heartbeat_s,
      {
        beat: (left) => this.#alive(left),
        lost: () =>
          this.hall.visit !== null &&
          this.#sending === null &&
          void this.#lose(this.draftOf(this.hall.visit)),
        signedOut: () => this.#signedOut(),
        failed: (error) => this.#noNetwork(error, GO_ON),
      },
      stopped,
    );
  }

  #alive(leftS: number): void {
    clearBanner("network");
    clearBanner("session");
    if (leftS <= 0) {
      const text =
        "This picture has been open for as long as it can be. Submit it soon, or it may go to somebody else.";
      banner("old", "warning", text);
    } else clearBanner("old");
  }

  /** Sends until the server has it; says whether it does. */
  async #send(draft: Draft): Promise<boolean> {
    this.#sending = draft;
    try {
      this.#recall = new AbortController();
      const outcome = await send(this.api, draft, (told) => this.#hear(told), this.#recall.signal);
      if (outcome.kind === "sent") await this.drafts.drop(draft);
      if (outcome.kind === "lost" || outcome.kind === "refused")
        await this.#lose(draft, outcome.error.message);
      return outcome.kind === "sent";
    } finally {
      this.#sending = null;
    }
  }

  #hear(outcome: Outcome): void {
    if (outcome.kind === "waits") {
      const inS = Math.ceil(outcome.inS);
      this.#noNetwork(
        outcome.error,
        `Your answer is safe in this browser and is sent again in ${inS} s.`,
      );
    } else clearBanner("network");
    if (outcome.kind === "signed out") this.#signedOut();
    if (outcome.kind === "sent") clearBanner("old");
  }

  async #lose(draft: Draft, why = "the lease has ended"): Promise<void> {
    const visit = this.hall.visit;
    if (visit?.item.item_id === draft.item_id) {
      visit.seal("This picture is no longer yours: see the message above it.");
      this.#stop.abort();
      await this.saver.end();
    }
    const lost = { ...draft, lost: true };
    await this.drafts.keep(lost);
    this.#offer(lost, why);
  }

  /** What can be done with a draft that the server takes no more. */
  #offer(draft: Draft, why = "the lease has ended"): void {
    const discard = async (): Promise<void> => {
      await this.drafts.drop(draft);
      clearBanner(bannerOf(draft));
      if (this.hall.visit?.item.item_id === draft.item_id) await this.next();
    };
    banner(
      bannerOf(draft),
      "problem",
      `${draft.file_name} is no longer yours (${why}). Nothing is lost: your work on it is kept in this browser.`,
      { text: "Try to take it again", run: () => void this.#retake(draft) },
      { text: "Keep as a file", run: () => saveAsFile(draft) },
      { text: "Discard", run: () => void discard() },
    );
  }

  async #retake(draft: Draft): Promise<void> {
    await this.saver.end();
    await this.next();
    if (this.hall.visit?.item.item_id === draft.item_id) return;
    this.#offer(draft, "somebody else has it, or it is done");
    this.hall.say(`${draft.file_name} could not be had again.`);
  }

  #noNetwork(error: Error, what: string): void {
    const again = { text: "Try now", run: () => tryNow() };
    const text = `${capital(messageOf(error))}. ${what}`;
    if (this.#sending === null) banner("network", "warning", text);
    else banner("network", "warning", text, again);
  }

  #signedOut(): void {
    const text =
      "Your session has ended. Your work is kept in this browser; sign in again to go on with it.";
    const open = (): void => void this.saver.flush().then(() => location.assign("/sign-in"));
    banner("session", "problem", text, { text: "Sign in again", run: open });
  }

  #nothing(counts: Counts): void {
    const hands =
      counts.leased === 1
        ? "1 is in other people's hands"
        : `${counts.leased} are in other people's hands`;
    // Second looks at one's own work, and what leads decide.
    const others = counts.ready > 0 ? `, ${counts.ready} for other people` : "";
    const aside = counts.dead > 0 ? `, ${counts.dead} set aside` : "";
    this.hall.close(
      counts.ready > 0 ? "Nothing waits for you" : "Nothing waits",
      `${counts.done} done, ${hands}${others}${aside}. This page looks again by itself.`,
      false,
    );
    this.#timer = window.setTimeout(() => void this.next(), LOOK_AGAIN_MS);
  }

  #clearTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}

function bannerOf(draft: Draft): string {
  return `lost ${draft.item_id} ${draft.lease_token}`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
