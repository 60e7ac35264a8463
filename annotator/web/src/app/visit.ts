/** One item while somebody works on it: the answer so far, what is selected, what is in the making. */

import { iou } from "../core/mask";
import type { Answered, Box, Click, Rle, Runs } from "../core/types";
import type { FindAnswer } from "../core/wire";
import type { Predictor } from "../worker/predictor";
import { brushed } from "./brush";
import { restored, type Draft } from "./drafts";
import { best, Maker } from "./maker";
import type { Lease, Proposal, WorkItem } from "./messages";
import type { Shown } from "./masklayer";
import { STATE_NAMES } from "./palette";
import * as rows from "./rows";
import type { Filter, Row } from "./rows";
import { rleOf, runsOf } from "./shapes";
import * as state from "./state";
import type { Action, Answer, History, Making } from "./state";
import type { Point } from "./view";
import { WorkTime } from "./worktime";

/** What changed: only what lies above the masks, what is selected or filtered, or the answer itself. */
export type Change = "scene" | "selection" | "answer";

/** Who hears of the visit. */
export interface Audience {
  changed(what: Change): void;
  /** Something happened that people should hear of. */
  say(text: string): void;
}

/** Of two masks that overlap so much one is enough. */
const SAME_IOU = 0.7;

export class Visit {
  readonly item: WorkItem;
  readonly leaseToken: number;
  readonly key: string;
  readonly openedAt: number;
  readonly worked: WorkTime;
  readonly maker: Maker;
  readonly ordered: readonly Proposal[];
  selected: string | null = null;
  hovered: Answered | null = null;
  preview: Answered | null = null;
  waiting: readonly Click[] = [];
  category: string | null = null;
  #sealed: string | null = null;
  #filter: Filter = rows.NO_FILTER;
  #history: History;
  #rows: readonly Row[] | null = null;
  #shown: readonly Shown[] | null = null;

  constructor(
    lease: Pick<Lease, "item" | "lease_token">,
    draft: Draft | null,
    predictor: Predictor,
    private readonly audience: Audience,
  ) {
    this.item = lease.item;
    this.leaseToken = lease.lease_token;
    // An earlier lease's key may have been answered already, for another body.
    this.key =
      draft?.lease_token === lease.lease_token ? draft.idempotency_key : crypto.randomUUID();
    this.openedAt = draft?.opened_at ?? Date.now();
    this.worked = new WorkTime(
      () => performance.now() / 1000,
      draft?.seconds,
      document.visibilityState === "visible",
    );
    this.#history = restored(draft);
    this.ordered = rows.byCertainty(lease.item);
    this.maker = new Maker({
      predictor,
      making: () => this.making,
      make: (making) => this.act({ kind: "make", making }),
      elapsed: () => this.elapsed,
      hovered: (answers) => this.#show({ hovered: answers?.[best(answers)] ?? null }),
      preview: (answer) => this.#show({ preview: answer }),
      waiting: (waiting) => this.#show({ waiting }),
      failed: (error) => audience.say(`That was not answered: ${messageOf(error)}. Try it again.`),
    });
  }

  get answer(): Answer {
    return this.#history.present;
  }

  get history(): History {
    return this.#history;
  }

  get making(): Making | null {
    return this.answer.making;
  }

  /** Seconds since the item was opened; a clock that was set back never gives less than 0. */
  get elapsed(): number {
    return Math.max(0, Math.min(6 * 86_400, (Date.now() - this.openedAt) / 1000));
  }

  get canUndo(): boolean {
    return this.#history.past.length > 0;
  }

  get canRedo(): boolean {
    return this.#history.future.length > 0;
  }

  get filter(): Filter {
    return this.#filter;
  }

  set filter(filter: Filter) {
    this.#filter = filter;
    this.#shown = null;
    this.audience.changed("selection");
  }

  get rows(): readonly Row[] {
    this.#rows ??= rows.rowsOf(this.ordered, this.answer);
    return this.#rows;
  }

  /** Rows that pass the filter. */
  get listed(): readonly Row[] {
    return this.rows.filter((row) => rows.passes(row, this.#filter));
  }

  /** Masks for the canvas; the same list as long as nothing of it changed. */
  get shown(): readonly Shown[] {
    this.#shown ??= rows.shownOf(this.rows, this.#filter, this.making?.target ?? null);
    return this.#shown;
  }

  get undecided(): readonly Row[] {
    return this.rows.filter((row) => row.state === "undecided");
  }

  /** Masks that stand so far. */
  get numMade(): number {
    const decided = Object.values(this.answer.decisions).filter(
      (decision) => decision.action !== "rejected",
    );
    return decided.length + this.answer.added.filter((mask) => !state.isOpen(mask)).length;
  }

  /** Names that are known here: suggested ones, and those given so far. */
  get names(): readonly string[] {
    const suggested = this.item.proposals.map((proposal) => proposal.suggestion?.category);
    const given = [...Object.values(this.answer.categories), this.category ?? undefined];
    const known = [...suggested, ...given].filter((name) => name !== undefined);
    return [...new Set(known)].sort();
  }

  row(id: string | null): Row | null {
    return id === null ? null : (this.rows.find((row) => row.id === id) ?? null);
  }

  /** Nothing changes any more; `why` is said to whoever tries. */
  seal(why: string): void {
    this.#sealed = why;
    this.audience.changed("selection");
  }

  unseal(): void {
    this.#sealed = null;
    this.audience.changed("selection");
  }

  get isSealed(): boolean {
    return this.#sealed !== null;
  }

  act(action: Action): void {
    this.#become(state.act(this.#history, action));
  }

  undo(): void {
    // A click that is not answered yet is the last thing that was done.
    if (this.maker.drop()) return this.audience.say("Undone.");
    if (!this.canUndo) return this.audience.say("Nothing to undo.");
    this.#become(state.undo(this.#history));
    this.audience.say("Undone.");
  }

  redo(): void {
    if (!this.canRedo) return this.audience.say("Nothing to redo.");
    this.#become(state.redo(this.#history));
    this.audience.say("Done again.");
  }

  select(id: string | null): void {
    if (id === this.selected) return;
    this.selected = id;
    this.audience.changed("selection");
    const row = this.row(id);
    if (row !== null) this.audience.say(described(row));
  }

  step(step: 1 | -1): Row | null {
    const row = rows.nextProposal(this.rows, this.selected, step);
    if (row === null) this.audience.say("There are no proposals on this picture.");
    else this.select(row.id);
    return row;
  }

  /** Accept or reject the selected proposal; what people added is removed instead of rejected. */
  decide(action: "accepted" | "rejected"): void {
    const row = this.row(this.selected);
    if (row === null) return this.audience.say("Select a proposal first: Tab, or a click on it.");
    if (!row.isProposal) {
      if (action === "rejected") this.remove();
      else this.audience.say("This mask is yours already.");
      return;
    }
    if (row.state === "edited" && action === "accepted")
      return this.audience.say("Your correction stands already.");
    this.act({ kind: "decide", ids: [row.id], action, category: this.category });
    this.audience.say(
      `Mask ${row.number} ${action}; ${counted(this.undecided.length, "proposal")} to decide.`,
    );
  }

  /** Accepts the selected proposal with the name that is suggested for it. */
  confirm(): void {
    const row = this.row(this.selected);
    if (row === null) return this.audience.say("Select a proposal first: Tab, or a click on it.");
    if (row.suggestion === null)
      return this.audience.say(
        row.category === null ? "No name is suggested for it." : `It is named ${row.category}.`,
      );
    this.act({ kind: "confirm", names: rows.namesOf([row]) });
    this.audience.say(
      `Mask ${row.number} accepted as ${row.suggestion.category}; ` +
        `${counted(this.undecided.length, "proposal")} to decide.`,
    );
  }

  /** Accepts all undecided proposals that pass the filter, with the names suggested for them. */
  confirmListed(): void {
    const listed = this.listed.filter((row) => row.state === "undecided");
    const names = rows.namesOf(listed);
    this.act({ kind: "confirm", names });
    this.audience.say(`${counted(Object.keys(names).length, "proposal")} accepted with their names.`);
  }

  /** What a text found, to decide on; masks that are there already are left out. */
  found(text: string, { presence, masks }: FindAnswer): void {
    const standing = this.rows.filter((row) => row.state !== "rejected").map((row) => row.runs);
    const isNew = (segmentation: Rle): boolean =>
      standing.every((runs) => iou(runs, runsOf(segmentation)) < SAME_IOU);
    const fresh = masks.filter(({ segmentation }) => isNew(segmentation));
    this.act({
      kind: "found",
      text,
      masks: fresh.map(({ segmentation, predicted_iou }) => ({ segmentation, iou: predicted_iou })),
    });
    this.audience.say(answerWords(text, presence, masks.length, fresh.length));
  }

  remove(): void {
    const row = this.row(this.selected);
    if (row === null) return this.audience.say("Select a mask first: Tab, or a click on it.");
    if (row.isProposal) return this.decide("rejected");
    this.selected = null;
    this.act({ kind: "remove", id: row.id });
    this.audience.say(`Mask ${row.number} deleted.`);
  }

  /** Accepts all undecided proposals that pass the filter. */
  acceptListed(): void {
    const ids = this.listed.filter((row) => row.state === "undecided").map((row) => row.id);
    this.act({ kind: "decide", ids, action: "accepted", category: this.category });
    this.audience.say(`${counted(ids.length, "proposal")} accepted.`);
  }

  /** A click of the prompt: on the mask in the making, the selected one, or for a new one. */
  prompt(click: Click): Promise<void> {
    return this.maker.click(click, () => this.#begun(this.selected));
  }

  box(box: Box): Promise<void> {
    return this.maker.box(box, async () => this.maker.fresh());
  }

  /** Brush strokes change the mask in the making, the selected one, or begin one. */
  brush(path: readonly Point[], radius: number, adds: boolean): void {
    const making = this.making ?? this.#drawable(this.selected);
    const { height, width } = this.item;
    const nothing: Runs = { height, width, starts: new Int32Array(0), ends: new Int32Array(0) };
    const now = state.shown(making);
    const mask = brushed(now === null ? nothing : runsOf(now.segmentation), path, radius, adds);
    const choice = { segmentation: rleOf(mask), iou: null, token: now?.token ?? null };
    this.act({ kind: "make", making: { ...making, choices: [choice], chosen: 0, drawn: true } });
  }

  choose(index: number): void {
    const making = this.making;
    if (making === null || making.choices.length < 2)
      return this.audience.say("There is nothing to choose from now.");
    this.act({ kind: "choose", index });
    this.audience.say(`${["Whole", "Part", "Subpart"][index]} chosen.`);
  }

  /** Accepts the mask in the making; says whether it could. */
  finish(): boolean {
    const making = this.making;
    const choice = making === null ? null : state.shown(making);
    if (making === null || choice === null) return false;
    if (runsOf(choice.segmentation).starts.length === 0) {
      this.audience.say("The mask is empty: add to it, or cancel it with Esc.");
      return false;
    }
    this.act({ kind: "finish", category: this.category });
    this.select(null);
    this.audience.say(making.target === null ? "Mask added." : "Correction kept.");
    return true;
  }

  cancel(): boolean {
    const dropped = this.maker.drop();
    if (this.making !== null) {
      this.act({ kind: "cancel" });
      this.audience.say("The mask in the making was dropped. Ctrl+Z brings it back.");
      return true;
    }
    if (this.selected === null) return dropped;
    this.select(null);
    return true;
  }

  /** Accepts the mask in the making, once the clicks on their way are answered. */
  async accept(): Promise<boolean> {
    if (this.maker.isWaiting) await this.maker.settled;
    return this.finish();
  }

  /** Takes a mask up again, to correct it. */
  async edit(id: string): Promise<void> {
    const making = await this.#begun(id);
    if (this.making === null) this.act({ kind: "make", making });
  }

  #become(history: History): void {
    if (history === this.#history) return;
    if (this.#sealed !== null) return this.audience.say(this.#sealed);
    this.#history = history;
    [this.#rows, this.#shown, this.hovered, this.preview] = [null, null, null, null];
    if (this.row(this.selected) === null) this.selected = null;
    this.audience.changed("answer");
  }

  #show(changes: Partial<Pick<Visit, "hovered" | "preview" | "waiting">>): void {
    Object.assign(this, changes);
    this.audience.changed("scene");
  }

  async #begun(id: string | null): Promise<Making> {
    const proposal = this.item.proposals.find((one) => one.proposal_id === id);
    if (proposal !== undefined) return this.maker.reopened(proposal, this.#standing(proposal));
    const added = this.answer.added.find((mask) => mask.id === id);
    return added === undefined ? this.maker.fresh() : this.maker.again(added);
  }

  #drawable(id: string | null): Making {
    const proposal = this.item.proposals.find((one) => one.proposal_id === id);
    const added = this.answer.added.find((mask) => mask.id === id);
    if (added !== undefined) return this.maker.again(added);
    if (proposal === undefined) return this.maker.fresh();
    const { segmentation, clicks } = this.#standing(proposal);
    const choices = [{ segmentation, iou: null, token: null }];
    return { ...this.maker.fresh(), target: proposal.proposal_id, clicks, choices };
  }

  #standing(proposal: Proposal): Pick<state.Shape, "segmentation" | "clicks"> {
    const decision = this.answer.decisions[proposal.proposal_id];
    return decision?.action === "edited"
      ? decision
      : { segmentation: proposal.segmentation, clicks: [] };
  }
}

/** A row in words. */
export function described(row: Row): string {
  const certain = row.iou === null ? "" : `, ${Math.round(row.iou * 100)} % sure`;
  const name = row.suggestion === null ? "" : ` Suggested: ${rows.asked(row.suggestion)}`;
  return `Mask ${row.number}, ${STATE_NAMES[row.state]}${certain}, ${row.area} pixels${rows.foundWords(row)}.${name}`;
}

function answerWords(text: string, presence: number, all: number, fresh: number): string {
  const sure = `${Math.round(presence * 100)} % sure that there is one`;
  if (all === 0) return `Nothing found for “${text}”: ${sure}.`;
  const known = all === fresh ? "" : `, ${all - fresh} more there already`;
  return `${counted(fresh, "mask")} found for “${text}”${known}: ${sure}.`;
}

export function counted(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
