/** The panel of masks: counts, filter, list, and what to do with the selected one. */

import { byId, element, setText } from "./dom";
import { MaskList } from "./list";
import { isFiltering, type Filter, type Row } from "./rows";
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
    categories: readonly string[],
  ) {
    this.#list = new MaskList(byId("list"), (id) => events.picked(id));
    for (const id of ["min-iou", "min-area", "undecided-only"])
      byId(id).addEventListener("input", () => this.#filtered());
    const select = byId<HTMLSelectElement>("category");
    byId("category-field").hidden = categories.length === 0;
    select.append(
      element("option", { value: "" }, "none"),
      ...categories.map((name) => element("option", { value: name }, name)),
    );
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
    this.#showFilter(visit, listed.filter((row) => row.state === "undecided").length);
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

  #showSelected(visit: Visit | null): void {
    const row = visit?.row(visit.selected) ?? null;
    setText(byId("selected-text"), row === null ? "No mask selected" : briefly(row));
    for (const button of byId("selected").querySelectorAll<HTMLButtonElement>("button")) {
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
  return `Mask ${row.number}: ${certain}${row.area} px`;
}

function whyNone(visit: Visit): string {
  return visit.rows.length === 0 ? "No masks yet: click on an object" : "The filter leaves none";
}

function countsOf(visit: Visit): string {
  const waiting = visit.undecided.length;
  return `${waiting} to decide, ${counted(visit.numMade, "mask")} so far`;
}
