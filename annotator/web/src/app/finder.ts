/** The field that finds masks by a text; it is there where the item's model reads texts. */

import { say } from "./announce";
import type { Api } from "./api";
import { byId } from "./dom";
import { messageOf, type Visit } from "./visit";

export class Finder {
  readonly #field = byId<HTMLInputElement>("find-text");
  #isAsking = false;

  constructor(
    private readonly api: Api,
    private readonly visit: () => Visit | null,
  ) {
    byId("find").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#find();
    });
    this.#field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") byId("stage").focus({ preventScroll: true });
    });
  }

  show(visit: Visit | null): void {
    byId("find").hidden = visit?.item.reads_text !== true;
  }

  focus(): void {
    if (byId("find").hidden) return say("No model finds masks by a text here: see model.text.");
    this.#field.focus();
    this.#field.select();
  }

  async #find(): Promise<void> {
    const [visit, text] = [this.visit(), this.#field.value.trim()];
    if (visit === null || text === "" || this.#isAsking) return;
    this.#waiting(true);
    say(`Looking for “${text}” …`);
    try {
      const found = await this.api.find(visit.item.item_id, text);
      // Another picture may be there by now.
      if (this.visit() !== visit) return;
      visit.found(text, found);
      byId("stage").focus({ preventScroll: true });
    } catch (error) {
      if (this.visit() === visit) say(`That was not answered: ${messageOf(error)}`);
    } finally {
      this.#waiting(false);
    }
  }

  #waiting(isAsking: boolean): void {
    this.#isAsking = isAsking;
    byId("find").setAttribute("aria-busy", String(isAsking));
    byId<HTMLButtonElement>("find-go").disabled = isAsking;
  }
}
