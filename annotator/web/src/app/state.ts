/**
 * A person's answer to one item, and its history: values that never change, and pure functions.
 *
 * Everything that changes the answer is an `Action`, so that undo and redo cover all of it.
 */

import type { Box, Click, Rle } from "../core/types";
import type { LoggedClick } from "./messages";

/** A mask with the clicks and the box that led to it; `drawn` when a brush finished it. */
export interface Shape {
  readonly segmentation: Rle;
  readonly clicks: readonly LoggedClick[];
  readonly box: Box | null;
  readonly drawn: boolean;
}

/** What became of a proposal; one without a decision still waits for it. */
export type Decision =
  | { readonly action: "accepted" }
  | { readonly action: "rejected"; readonly clicks: readonly LoggedClick[] }
  | ({ readonly action: "edited" } & Shape);

/** What a text found; `isOpen` until somebody decides on it. */
export interface FoundBy {
  readonly text: string;
  readonly iou: number;
  readonly isOpen: boolean;
}

/** A mask that no proposal had. */
export interface Added extends Shape {
  readonly id: string;
  readonly found?: FoundBy;
}

/** One of the masks that the model gave; `token` names its logits, null when they are gone. */
export interface Choice {
  readonly segmentation: Rle;
  readonly iou: number | null;
  readonly token: number | null;
}

/**
 * The mask in the making.
 *
 * `target` is the proposal or added mask that it corrects, null for a new one. `seed` are clicks
 * that made the target before; they belong to the prompt, not to the person's log, and so does a box
 * that is not `boxed` by the person.
 */
export interface Making {
  readonly target: string | null;
  readonly seed: readonly Click[];
  readonly box: Box | null;
  readonly boxed: boolean;
  readonly clicks: readonly LoggedClick[];
  readonly choices: readonly Choice[];
  readonly chosen: number;
  readonly drawn: boolean;
  readonly begun_s: number;
}

export interface Answer {
  readonly decisions: Readonly<Record<string, Decision>>;
  readonly added: readonly Added[];
  readonly complete: boolean;
  readonly making: Making | null;
  /** What masks show, by id, where the project has categories. */
  readonly categories: Readonly<Record<string, string>>;
  /** How many masks were ever added, to name the next. */
  readonly named: number;
}

export type Action =
  | {
      readonly kind: "decide";
      readonly ids: readonly string[];
      readonly action: "accepted" | "rejected";
      /** What accepted masks show that have no category yet. */
      readonly category?: string | null;
    }
  | {
      readonly kind: "found";
      readonly text: string;
      readonly masks: readonly { readonly segmentation: Rle; readonly iou: number }[];
    }
  /** Proposals accepted together with what they show. */
  | { readonly kind: "confirm"; readonly names: Readonly<Record<string, string>> }
  | { readonly kind: "make"; readonly making: Making }
  | { readonly kind: "choose"; readonly index: number }
  | { readonly kind: "cancel" }
  | { readonly kind: "finish"; readonly category: string | null }
  | { readonly kind: "remove"; readonly id: string }
  | { readonly kind: "name"; readonly id: string; readonly category: string | null }
  | { readonly kind: "complete"; readonly complete: boolean };

export interface History {
  readonly past: readonly Answer[];
  readonly present: Answer;
  readonly future: readonly Answer[];
}

export const NOTHING: Answer = {
  decisions: {},
  added: [],
  complete: false,
  making: null,
  categories: {},
  named: 0,
};

/** A kept history has so many steps to either side, and fewer where each holds many masks. */
const KEPT_STEPS = 100;
const KEPT_MASKS = 20_000;

/** A history that begins with `present`. */
export function begin(present: Answer = NOTHING): History {
  return { past: [], present, future: [] };
}

/** The history after an action; the same object when the action changes nothing. */
export function act(history: History, action: Action): History {
  const present = changed(history.present, action);
  if (present === history.present) return history;
  return { past: [...history.past, history.present], present, future: [] };
}

/** One step back; the same object when there is none. */
export function undo(history: History): History {
  const present = history.past.at(-1);
  if (present === undefined) return history;
  return { past: history.past.slice(0, -1), present, future: [history.present, ...history.future] };
}

/** One step forward again; the same object when there is none. */
export function redo(history: History): History {
  const [present, ...future] = history.future;
  if (present === undefined) return history;
  return { past: [...history.past, history.present], present, future };
}

/** The steps next to the present, few enough to be kept after each change. */
export function recent(history: History): History {
  const { decisions, added } = history.present;
  const size = 1 + Object.keys(decisions).length + added.length;
  const steps = Math.min(KEPT_STEPS, Math.floor(KEPT_MASKS / size));
  const first = Math.max(0, history.past.length - steps);
  return { ...history, past: history.past.slice(first), future: history.future.slice(0, steps) };
}

/** The mask that is shown for the one in the making; null while there is none. */
export function shown(making: Making): Choice | null {
  return making.choices[making.chosen] ?? null;
}

function changed(answer: Answer, action: Action): Answer {
  switch (action.kind) {
    case "decide":
      return decided(answer, action.ids, action.action, action.category ?? null);
    case "found":
      return withFound(answer, action.text, action.masks);
    case "confirm":
      return confirmed(answer, action.names);
    case "make":
      return { ...answer, making: action.making };
    case "choose":
      return chosen(answer, action.index);
    case "cancel":
      return answer.making === null ? answer : { ...answer, making: null };
    case "finish":
      return finished(answer, action.category);
    case "remove":
      return removed(answer, action.id);
    case "name":
      return renamed(answer, action.id, action.category);
    case "complete":
      return answer.complete === action.complete
        ? answer
        : { ...answer, complete: action.complete };
  }
}

function decided(
  answer: Answer,
  ids: readonly string[],
  action: "accepted" | "rejected",
  category: string | null,
): Answer {
  const found = new Set(answer.added.filter(isOpen).map(({ id }) => id));
  const moved = ids.filter((id) => found.has(id) || changes(answer.decisions[id], action));
  if (moved.length === 0) return answer;
  const added = settled(answer.added, new Set(moved), action);
  const decisions = { ...answer.decisions };
  for (const id of moved.filter((one) => !found.has(one))) {
    const before = decisions[id];
    const clicks = before !== undefined && "clicks" in before ? before.clicks : [];
    decisions[id] = action === "accepted" ? { action } : { action, clicks };
  }
  const making = answer.making;
  const lost = making !== null && making.target !== null && moved.includes(making.target);
  const categories =
    action === "accepted" ? withDefault(answer.categories, moved, category) : answer.categories;
  return { ...answer, added, decisions, categories, making: lost ? null : making };
}

/** Whether a mask was found by a text and nobody has said whether it is right. */
export function isOpen(mask: Added): boolean {
  return mask.found?.isOpen === true;
}

/** What was found stays where it is accepted, and goes where it is not. */
function settled(
  added: readonly Added[],
  ids: ReadonlySet<string>,
  action: "accepted" | "rejected",
): readonly Added[] {
  const isMeant = (mask: Added): boolean => isOpen(mask) && ids.has(mask.id);
  if (!added.some(isMeant)) return added;
  if (action === "rejected") return added.filter((mask) => !isMeant(mask));
  return added.map((mask) =>
    isMeant(mask) ? { ...mask, found: { ...mask.found!, isOpen: false } } : mask,
  );
}

function withFound(
  answer: Answer,
  text: string,
  masks: readonly { readonly segmentation: Rle; readonly iou: number }[],
): Answer {
  if (masks.length === 0) return answer;
  const bare = { clicks: [], box: null, drawn: false };
  const added = masks.map(
    ({ segmentation, iou }, index): Added => ({
      ...bare,
      segmentation,
      id: `added-${answer.named + index + 1}`,
      found: { text, iou, isOpen: true },
    }),
  );
  const named = answer.named + added.length;
  return { ...answer, added: [...answer.added, ...added], named };
}

function confirmed(answer: Answer, names: Readonly<Record<string, string>>): Answer {
  const accepted = decided(answer, Object.keys(names), "accepted", null);
  return Object.entries(names).reduce((so, [id, name]) => renamed(so, id, name), accepted);
}

/** An edited mask stands as accepted already: accepting it again must not lose the correction. */
function changes(before: Decision | undefined, action: "accepted" | "rejected"): boolean {
  if (before === undefined) return true;
  return before.action !== action && !(action === "accepted" && before.action === "edited");
}

function chosen(answer: Answer, index: number): Answer {
  const making = answer.making;
  const choice = making?.choices[index];
  if (making === null || choice === undefined || index === making.chosen) return answer;
  const last = making.clicks.at(-1);
  // The click is kept with the mask that the person saw after it and went on with.
  const clicks =
    last === undefined ? making.clicks : [...making.clicks.slice(0, -1), answeredBy(last, choice)];
  return { ...answer, making: { ...making, chosen: index, clicks } };
}

/** A click with the mask that was shown after it. */
export function answeredBy(click: LoggedClick, choice: Choice): LoggedClick {
  const { x, y, label, at_s } = click;
  const iou = choice.iou === null ? {} : { predicted_iou: Math.min(1, Math.max(0, choice.iou)) };
  return { x, y, label, at_s, ...iou, segmentation: choice.segmentation };
}

function finished(answer: Answer, category: string | null): Answer {
  const making = answer.making;
  const choice = making === null ? null : shown(making);
  if (making === null || choice === null) return answer;
  const shape: Shape = {
    segmentation: choice.segmentation,
    clicks: making.clicks,
    box: making.boxed ? making.box : null,
    drawn: making.drawn,
  };
  const named = answer.named + (making.target === null ? 1 : 0);
  const id = making.target ?? `added-${named}`;
  const categories = withDefault(answer.categories, [id], category);
  const done = { ...answer, making: null, categories, named };
  if (making.target === null) return { ...done, added: [...answer.added, { ...shape, id }] };
  if (answer.added.some((mask) => mask.id === id)) {
    return {
      ...done,
      added: answer.added.map((mask) => (mask.id === id ? { ...shape, id } : mask)),
    };
  }
  return { ...done, decisions: { ...answer.decisions, [id]: { action: "edited", ...shape } } };
}

/** A category for those of `ids` that have none. */
function withDefault(
  categories: Answer["categories"],
  ids: readonly string[],
  category: string | null,
): Answer["categories"] {
  const bare = ids.filter((id) => categories[id] === undefined);
  if (category === null || bare.length === 0) return categories;
  return { ...categories, ...Object.fromEntries(bare.map((id) => [id, category])) };
}

function removed(answer: Answer, id: string): Answer {
  const added = answer.added.filter((mask) => mask.id !== id);
  if (added.length === answer.added.length) return answer;
  return { ...answer, added, making: answer.making?.target === id ? null : answer.making };
}

function renamed(answer: Answer, id: string, category: string | null): Answer {
  if ((answer.categories[id] ?? null) === category) return answer;
  const { [id]: _, ...others } = answer.categories;
  return { ...answer, categories: category === null ? others : { ...others, [id]: category } };
}
