/** The panel of masks: counts, filter, list, and what to do with the selected one. */

import { byId, element, setText } from "./dom";
import { MaskList } from "./list";
import { asked, foundWords, isFiltering, type Filter, type Row } from "./rows";
import { counted, type Visit } from "./visit";

export interface PanelEvents {
  picked(id: string): void;
  filtered(filter: Filter): void;
  named(category: string | null): void;
}

export class Panel {
  readonly #list: MaskList;

  constructor(
    private readonly events: PanelEvents,
    private readonly categories: readonly string[],
  ) {
    this.#list = new MaskList(byId("list"), (id) => events.picked(id));
    for (const id of ["min-iou", "min-area", "undecided-only"])
      byId(id).addEventListener("input", () => this.#filtered());
    const select = byId<HTMLSelectElement>("category");
    select.addEventListener("change", () =>
      events.named(select.value === "" ? null : select.value),
    );
  }

  get isShown(): boolean {
    return !byId("panel").hidden;
  }

  toggle(): void {
    byId("panel").hidden = this.isShown;
  }

  show(visit: Visit | null): void {
    const listed = visit?.listed ?? [];
    this.#list.show(listed, visit?.selected ?? null, visit === null ? "" : whyNone(visit));
    setText(byId("counts"), visit === null ? "" : countsOf(visit));
    const waiting = listed.filter((row) => row.state === "undecided");
    this.#showFilter(visit, waiting.length);
    this.#showNames(visit, waiting);
    this.#showSelected(visit);
  }

  #showFilter(visit: Visit | null, waiting: number): void {
    const filter = visit?.filter;
    const isOn = filter !== undefined && isFiltering(filter);
    setText(
      byId("filter-note"),
      isOn ? `${visit!.listed.length} of ${visit!.rows.length} shown` : "",
    );
    if (filter !== undefined) {
      byId<HTMLInputElement>("min-iou").value = String(Math.round(filter.minIou * 100));
      setText(byId("min-iou-shown"), `${Math.round(filter.minIou * 100)} %`);
      byId<HTMLInputElement>("undecided-only").checked = filter.undecidedOnly;
      if (document.activeElement?.id !== "min-area")
        byId<HTMLInputElement>("min-area").value = String(filter.minArea);
    }
    setText(
      byId("accept-listed-text"),
      waiting === 0 ? "Accept all shown" : `Accept all shown (${waiting})`,
    );
    byId<HTMLButtonElement>("accept-listed").disabled = waiting === 0;
  }

  /** What suggests names is there only on pictures that have any. */
  #showNames(visit: Visit | null, waiting: readonly Row[]): void {
    const isSuggested = visit?.item.proposals.some((one) => (one.suggestion ?? null) !== null);
    const named = waiting.filter((row) => row.suggestion !== null).length;
    for (const id of ["confirm-listed", "confirm"]) byId(id).hidden = isSuggested !== true;
    byId<HTMLButtonElement>("confirm-listed").disabled = named === 0;
    setText(
      byId("confirm-listed-text"),
      named === 0 ? "Accept with names" : `Accept with names (${named})`,
    );
    const row = visit?.row(visit.selected) ?? null;
    const suggestion = row?.suggestion ?? null;
    const none = row === null || row.category === null ? "No name suggested" : `Named ${row.category}`;
    byId<HTMLButtonElement>("confirm").disabled = suggestion === null;
    setText(
      byId("confirm-text"),
      suggestion === null ? none : `Accept as ${asked(suggestion)}`,
    );
    this.#offer(this.categories.length > 0 ? this.categories : (visit?.names ?? []));
  }

  /** The names to choose from. */
  #offer(names: readonly string[]): void {
    const select = byId<HTMLSelectElement>("category");
    byId("category-field").hidden = names.length === 0;
    const shown = [...select.options].slice(1).map((option) => option.value);
    if (select.options.length > 0 && shown.join("\n") === names.join("\n")) return;
    select.replaceChildren(
      element("option", { value: "" }, "none"),
      ...names.map((name) => element("option", { value: name }, name)),
    );
  }

  #showSelected(visit: Visit | null): void {
    const row = visit?.row(visit.selected) ?? null;
    setText(byId("selected-text"), row === null ? "No mask selected" : briefly(row));
    for (const button of byId("selected").querySelectorAll<HTMLButtonElement>(".group button")) {
      const isForProposals =
        button.dataset["command"] === "accept" || button.dataset["command"] === "reject";
      button.disabled = row === null || (isForProposals && !row.isProposal);
    }
    const select = byId<HTMLSelectElement>("category");
    // With no mask selected it is that of the next ones.
    select.value = (row === null ? visit?.category : row.category) ?? "";
  }

  #filtered(): void {
    this.events.filtered({
      minIou: byId<HTMLInputElement>("min-iou").valueAsNumber / 100,
      minArea: Math.max(0, byId<HTMLInputElement>("min-area").valueAsNumber || 0),
      undecidedOnly: byId<HTMLInputElement>("undecided-only").checked,
    });
  }
}

/** A row in a line of the panel. */
function briefly(row: Row): string {
  const certain = row.iou === null ? "" : `${Math.round(row.iou * 100)} % sure, `;
  return `Mask ${row.number}: ${certain}${row.area} px${foundWords(row)}`;
}

function whyNone(visit: Visit): string {
  return visit.rows.length === 0 ? "No masks yet: click on an object" : "The filter leaves none";
}

function countsOf(visit: Visit): string {
  const waiting = visit.undecided.length;
  return `${waiting} to decide, ${counted(visit.numMade, "mask")} so far`;
}
