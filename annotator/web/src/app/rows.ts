/** All masks of an item as the list and the canvas show them, and the filter over them. */

import { area as areaOf } from "../core/mask";
import type { Box, Rle, Runs } from "../core/types";
import type { Shown } from "./masklayer";
import type { Proposal, Suggestion, WorkItem } from "./messages";
import { lookOf, type MaskState } from "./palette";
import { boxAround, runsOf } from "./shapes";
import { isOpen, type Added, type Answer } from "./state";

export interface Row {
  readonly id: string;
  /** Names its colour and its line in the list; from 1. */
  readonly number: number;
  readonly isProposal: boolean;
  readonly state: MaskState;
  readonly segmentation: Rle;
  readonly runs: Runs;
  readonly box: Box;
  readonly area: number;
  readonly iou: number | null;
  readonly category: string | null;
  /** What it may show, as long as nobody has said what it shows. */
  readonly suggestion: Suggestion | null;
  /** The text that found it. */
  readonly text: string | null;
}

export interface Filter {
  /** Proposals of at least this predicted IoU. */
  readonly minIou: number;
  /** Masks of at least so many pixels. */
  readonly minArea: number;
  readonly undecidedOnly: boolean;
}

export const NO_FILTER: Filter = { minIou: 0, minArea: 0, undecidedOnly: false };

export function isFiltering(filter: Filter): boolean {
  return filter.minIou > 0 || filter.minArea > 0 || filter.undecidedOnly;
}

/** Proposals from the least to the most certain. */
export function byCertainty(item: Pick<WorkItem, "proposals">): readonly Proposal[] {
  return [...item.proposals].sort(
    (a, b) => a.predicted_iou - b.predicted_iou || a.stability_score - b.stability_score,
  );
}

/** A row for each proposal, in the order given, then one for each mask that was added. */
export function rowsOf(ordered: readonly Proposal[], answer: Answer): readonly Row[] {
  const proposed = ordered.map((proposal, index) => proposedRow(proposal, index + 1, answer));
  const added = answer.added.map((mask, index): Row => {
    const { id, found } = mask;
    const kind = { id, isProposal: isOpen(mask), state: stateOf(mask), iou: found?.iou ?? null };
    const category = answer.categories[mask.id] ?? null;
    return {
      ...kind,
      ...measured(mask.segmentation),
      category,
      suggestion: null,
      text: found?.text ?? null,
      number: ordered.length + index + 1,
    };
  });
  return [...proposed, ...added];
}

function proposedRow(proposal: Proposal, number: number, answer: Answer): Row {
  const decision = answer.decisions[proposal.proposal_id];
  const category = answer.categories[proposal.proposal_id] ?? null;
  const mask = decision?.action === "edited" ? decision.segmentation : proposal.segmentation;
  return {
    id: proposal.proposal_id,
    number,
    isProposal: true,
    state: decision?.action ?? "undecided",
    ...measured(mask),
    iou: proposal.predicted_iou,
    category,
    suggestion: category === null ? (proposal.suggestion ?? null) : null,
    text: null,
  };
}

function stateOf(mask: Added): MaskState {
  if (mask.found === undefined) return "added";
  return isOpen(mask) ? "undecided" : "accepted";
}

const areas = new WeakMap<Runs, number>();

function measured(segmentation: Rle): Pick<Row, "segmentation" | "runs" | "box" | "area"> {
  const runs = runsOf(segmentation);
  let area = areas.get(runs);
  if (area === undefined) areas.set(runs, (area = areaOf(runs)));
  return { segmentation, runs, box: boxAround(runs) ?? [0, 0, 0, 0], area };
}

/** Whether a row passes; masks that people added have no predicted IoU, which then asks nothing. */
export function passes(row: Row, filter: Filter): boolean {
  if (filter.undecidedOnly && row.state !== "undecided") return false;
  return row.area >= filter.minArea && (row.iou === null || row.iou >= filter.minIou);
}

/** A suggestion in words: a question, whoever sees it decides. */
export function asked({ category, score }: Suggestion): string {
  return `${category} ${Math.round(score * 100)} %?`;
}

/** By which text a row was found, behind other words on it. */
export function foundWords({ text }: Row): string {
  return text === null ? "" : `, found by “${text}”`;
}

/** The names that rows are suggested, by id. */
export function namesOf(rows: readonly Row[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    rows.flatMap(({ id, suggestion }) => (suggestion === null ? [] : [[id, suggestion.category]])),
  );
}

/** What the canvas shows: larger masks first, so that the smallest is on top; refused ones not at all. */
export function shownOf(
  rows: readonly Row[],
  filter: Filter,
  without: string | null,
): readonly Shown[] {
  return rows
    .filter((row) => row.state !== "rejected" && row.id !== without)
    .sort((a, b) => b.area - a.area)
    .map((row) => ({
      id: row.id,
      runs: row.runs,
      box: row.box,
      look: lookOf(row.number, row.state, !passes(row, filter)),
    }));
}

/** The row `step` further round among those that wait for a decision, or among all once none does. */
export function nextProposal(rows: readonly Row[], from: string | null, step: 1 | -1): Row | null {
  const proposals = rows.filter((row) => row.isProposal);
  const waiting = proposals.filter((row) => row.state === "undecided" && row.id !== from);
  const wanted = new Set((waiting.length > 0 ? waiting : proposals).map((row) => row.id));
  const at = proposals.findIndex((row) => row.id === from);
  const start = at === -1 && step === -1 ? proposals.length : at;
  for (let moved = 1; moved <= proposals.length; moved++) {
    const index = (start + step * moved + 2 * proposals.length) % proposals.length;
    const row = proposals[index]!;
    if (wanted.has(row.id)) return row;
  }
  return null;
}
