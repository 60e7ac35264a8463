/** The lead's tables; all that people named enters as text. */

import { element } from "../app/dom";
import { shares } from "./charts";
import type { Holder, Hour, ListedItem, Model, Person, Pin, SetAside } from "./messages";

/** What a button of a row does to an item, or to an image. */
export type Act = (id: string, fileName: string) => void;

type Cell = string | Node;

export interface Column {
  readonly name: string;
  readonly kind?: "number" | "action" | "file";
}

/** A table, or a line that says that there is nothing. */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly Cell[])[],
  none: string,
): HTMLElement {
  if (rows.length === 0) return element("p", { class: "none" }, none);
  const heads = columns.map(({ name, kind }) => {
    const text = kind === "action" ? element("span", { class: "unseen" }, name) : name;
    return element("th", { scope: "col", class: kind ?? "" }, text);
  });
  const body = rows.map((cells) =>
    element(
      "tr",
      {},
      ...cells.map((cell, index) => element("td", { class: columns[index]?.kind ?? "" }, cell)),
    ),
  );
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...body),
  );
}

export function holdersTable(holders: readonly Holder[], release: Act): HTMLElement {
  const columns: Column[] = [
    { name: "person" },
    { name: "picture", kind: "file" },
    { name: "held", kind: "number" },
    { name: "ends in", kind: "number" },
    { name: "action", kind: "action" },
  ];
  const rows = holders.map((held) => [
    held.annotator,
    held.file_name,
    duration(held.held_s),
    held.expires_in_s < 0 ? "run out" : duration(held.expires_in_s),
    button("Release", held.item_id, held.file_name, release),
  ]);
  return table(columns, rows, "Nobody holds anything.");
}

export function peopleTable(people: readonly Person[]): HTMLElement {
  const number = (name: string): Column => ({ name, kind: "number" });
  const columns = [
    { name: "name" },
    { name: "role" },
    number("items"),
    number("masks"),
    number("seconds a mask"),
    number("clicks a mask"),
    number("last seen"),
  ];
  const rows = people.map((person) => [
    person.name,
    person.role,
    String(person.items),
    String(person.masks),
    decimal(person.seconds_per_mask),
    decimal(person.clicks_per_mask),
    moment(person.last_seen),
  ]);
  return table(columns, rows, "Nobody has answered anything yet.");
}

export function modelsTable(models: readonly Model[]): HTMLElement {
  const number = (name: string): Column => ({ name, kind: "number" });
  const columns = [
    { name: "model" },
    { name: "shares" },
    number("accepted"),
    number("edited"),
    number("rejected"),
    number("added by people"),
  ];
  const rows = models.map((model) => [
    model.model_version,
    shares(model),
    withShare(model.num_accepted, model.share_accepted),
    withShare(model.num_edited, model.share_edited),
    withShare(model.num_rejected, model.share_rejected),
    String(model.num_added),
  ]);
  return table(columns, rows, "No proposal was decided yet.");
}

export function asideTable(items: readonly SetAside[], reopen: Act): HTMLElement {
  const columns: Column[] = [
    { name: "picture", kind: "file" },
    { name: "model" },
    { name: "why" },
    { name: "action", kind: "action" },
  ];
  const rows = items.map((item) => [
    item.file_name,
    item.model_version,
    item.reason,
    button("Reopen", item.item_id, item.file_name, reopen),
  ]);
  return table(columns, rows, "Nothing is set aside.");
}

export function pinsTable(pins: readonly Pin[], unpin: Act): HTMLElement {
  const columns: Column[] = [
    { name: "picture", kind: "file" },
    { name: "pinned by" },
    { name: "since", kind: "number" },
    { name: "now" },
    { name: "action", kind: "action" },
  ];
  const rows = pins.map((pin) => {
    const name = pin.file_name ?? pin.image_id;
    return [
      name,
      pin.pinned_by,
      moment(pin.pinned_at),
      pin.waits ? "in the queue" : "not in the queue yet",
      button("Unpin", pin.image_id, name, unpin),
    ];
  });
  return table(columns, rows, "No picture is pinned.");
}

export function disputesTable(items: readonly ListedItem[], pin: Act, unpin: Act): HTMLElement {
  const columns: Column[] = [
    { name: "picture", kind: "file" },
    { name: "model" },
    { name: "now" },
    { name: "action", kind: "action" },
  ];
  const rows = items.map((item) => [
    item.file_name,
    item.model_version,
    item.annotator === null ? "waits for a lead" : `with ${item.annotator}`,
    item.is_pinned
      ? button("Unpin", item.image_id, item.file_name, unpin)
      : button("Pin", item.image_id, item.file_name, pin),
  ]);
  return table(columns, rows, "Nobody disagrees.");
}

export function finishedTable(items: readonly ListedItem[], reopen: Act): HTMLElement {
  const columns: Column[] = [
    { name: "picture", kind: "file" },
    { name: "kind" },
    { name: "model" },
    { name: "by" },
    { name: "answered", kind: "number" },
    { name: "action", kind: "action" },
  ];
  const rows = items.map((item) => [
    item.file_name,
    item.kind,
    item.model_version,
    item.annotator ?? "–",
    moment(item.answered_at),
    button("Reopen", item.item_id, item.file_name, reopen),
  ]);
  return table(columns, rows, "Nothing is done yet.");
}

export function throughputTable(hours: readonly Hour[]): HTMLElement {
  const columns: Column[] = [
    { name: "hour from" },
    { name: "items", kind: "number" },
    { name: "masks", kind: "number" },
  ];
  return table(
    columns,
    hours.map((hour) => [moment(hour.starts_at), String(hour.items), String(hour.masks)]),
    "No hours yet.",
  );
}

function button(text: string, id: string, fileName: string, act: Act): HTMLButtonElement {
  const made = element(
    "button",
    { type: "button", class: "small", "aria-label": `${text} ${fileName}` },
    text,
  );
  made.addEventListener("click", () => act(id, fileName));
  return made;
}

function withShare(number: number, share: number | null): string {
  return share === null ? String(number) : `${number} (${Math.round(share * 100)} %)`;
}

function decimal(value: number | null): string {
  return value === null ? "–" : value.toFixed(1);
}

export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export function moment(at: string | null): string {
  if (at === null) return "–";
  return new Date(at).toLocaleString([], {
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
  });
}
