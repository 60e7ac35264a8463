/** The list of masks: only the rows in sight are elements, so that thousands cost nothing. */

import { element, setText } from "./dom";
import { cssColour, STATE_NAMES } from "./palette";
import { asked, type Row } from "./rows";

const ROW = 28;
const AROUND = 6;
const SVG = "http://www.w3.org/2000/svg";

export class MaskList {
  readonly #spacer = element("div", { class: "spacer", role: "presentation" });
  readonly #none = element("p", { class: "none" });
  #rows: readonly Row[] = [];
  #selected: string | null = null;
  #drawn = "";

  constructor(
    private readonly place: HTMLElement,
    private readonly picked: (id: string) => void,
  ) {
    place.append(this.#spacer, this.#none);
    place.addEventListener("scroll", () => this.#draw());
    new ResizeObserver(() => this.#draw()).observe(place);
    place.addEventListener("keydown", (event) => this.#key(event));
    place.addEventListener("click", (event) => {
      const row =
        event.target instanceof Element ? event.target.closest<HTMLElement>(".row") : null;
      if (row?.dataset["id"] !== undefined) picked(row.dataset["id"]);
    });
  }

  show(rows: readonly Row[], selected: string | null, empty: string): void {
    const moved = selected !== this.#selected;
    [this.#rows, this.#selected, this.#drawn] = [rows, selected, ""];
    this.#none.hidden = rows.length > 0;
    setText(this.#none, empty);
    this.#spacer.style.height = `${rows.length * ROW}px`;
    if (moved) this.#reveal();
    this.#draw();
  }

  #reveal(): void {
    const index = this.#rows.findIndex((row) => row.id === this.#selected);
    if (index === -1) return;
    const { scrollTop, clientHeight } = this.place;
    const top = index * ROW;
    if (top < scrollTop || top + ROW > scrollTop + clientHeight)
      this.place.scrollTop = top - clientHeight / 2;
  }

  #draw(): void {
    const { scrollTop, clientHeight } = this.place;
    const first = Math.max(0, Math.floor(scrollTop / ROW) - AROUND);
    const last = Math.min(this.#rows.length, Math.ceil((scrollTop + clientHeight) / ROW) + AROUND);
    const key = `${first} ${last}`;
    if (key === this.#drawn) return;
    this.#drawn = key;
    const visible = this.#rows.slice(first, last);
    this.#spacer.replaceChildren(...visible.map((row, index) => this.#row(row, first + index)));
    const active = visible.some((row) => row.id === this.#selected) ? "row-selected" : null;
    if (active === null) this.place.removeAttribute("aria-activedescendant");
    else this.place.setAttribute("aria-activedescendant", active);
  }

  #row(row: Row, index: number): HTMLElement {
    const isSelected = row.id === this.#selected;
    const made = element(
      "div",
      {
        class: `row ${row.state}`,
        role: "option",
        "aria-selected": String(isSelected),
        "aria-setsize": String(this.#rows.length),
        "aria-posinset": String(index + 1),
        "data-id": row.id,
        ...(isSelected ? { id: "row-selected" } : {}),
      },
      chip(row),
      String(row.number),
      element("span", { class: "state" }, ...wordsOf(row)),
      element(
        "span",
        { class: "sure" },
        row.iou === null ? `${row.area} px` : `${Math.round(row.iou * 100)} %`,
      ),
    );
    made.style.top = `${index * ROW}px`;
    return made;
  }

  #key(event: KeyboardEvent): void {
    const steps: Record<string, number> = {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: 10,
      PageUp: -10,
      Home: -1e9,
      End: 1e9,
    };
    const step = steps[event.key];
    if (step === undefined || this.#rows.length === 0) return;
    event.preventDefault();
    const at = this.#rows.findIndex((row) => row.id === this.#selected);
    const from = at === -1 && step > 0 ? -1 : Math.max(at, 0);
    const index = Math.max(0, Math.min(this.#rows.length - 1, from + step));
    this.picked(this.#rows[index]!.id);
  }
}

/** The state and what it may show, told apart from what somebody has said. */
function wordsOf(row: Row): (HTMLElement | string)[] {
  const { state, suggestion } = row;
  if (suggestion === null || state === "rejected") return [stateOf(row)];
  // There is room for one of them, and the outline says already that it waits.
  const isHidden = state === "undecided";
  return [
    element("span", { class: isHidden ? "unseen" : "" }, `${stateOf(row)} `),
    element("span", { class: "suggested" }, asked(suggestion)),
  ];
}

function stateOf({ state, category }: Row): string {
  return category === null ? STATE_NAMES[state] : `${STATE_NAMES[state]}: ${category}`;
}

/** The mask's colour with the outline of its state, as the canvas draws it. */
function chip(row: Row): SVGElement {
  const made = document.createElementNS(SVG, "svg");
  made.setAttribute("class", "chip");
  made.setAttribute("viewBox", "0 0 14 14");
  made.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS(SVG, "rect");
  const dashes = { undecided: "3 2", rejected: "1 2.2", accepted: "", edited: "", added: "" }[
    row.state
  ];
  const fill = { undecided: "0.25", rejected: "0", accepted: "0.6", edited: "0.6", added: "0.6" }[
    row.state
  ];
  const values = {
    x: "1.5",
    y: "1.5",
    width: "11",
    height: "11",
    rx: "3",
    fill: cssColour(row.number),
    stroke: cssColour(row.number),
  };
  for (const [name, value] of Object.entries({
    ...values,
    "fill-opacity": fill,
    "stroke-width": "2",
    "stroke-dasharray": dashes,
  })) {
    shape.setAttribute(name, value);
  }
  made.append(shape);
  if (row.state === "edited" || row.state === "added") {
    const hatch = document.createElementNS(SVG, "path");
    hatch.setAttribute("d", "M3 8 8 3M4 12l8-8M9 12l3-3");
    hatch.setAttribute("stroke", "currentColor");
    made.append(hatch);
  }
  return made;
}
