/** The lead's page: how far the queue is, who works on what, and what can be undone. */

import { Api, isPassing, isStatus, Refused } from "../app/api";
import { ask } from "../app/dialogs";
import { byId, setText } from "../app/dom";
import type { Counts } from "../app/messages";
import { applyTheme, nextTheme, type Theme } from "../app/theme";
import { throughputChart } from "./charts";
import type { ListedItem, ListedItems, Overview, Pins } from "./messages";
import {
  asideTable,
  disputesTable,
  finishedTable,
  holdersTable,
  modelsTable,
  peopleTable,
  pinsTable,
  throughputTable,
} from "./tables";

const EVERY_MS = 10_000;

class LeadPage {
  #finished: ListedItem[] = [];
  #next: string | null = null;
  #shown = new Map<string, string>();

  constructor(private readonly api: Api) {
    byId("more").addEventListener("click", () => void this.#more());
    byId("pin").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#pinTyped();
    });
  }

  /** Reads all anew, now and every ten seconds. */
  async run(): Promise<void> {
    await this.#refresh();
    setInterval(() => document.visibilityState === "visible" && void this.#refresh(), EVERY_MS);
  }

  async #refresh(): Promise<void> {
    try {
      const [overview, finished, pins, ...disputes] = await Promise.all([
        this.api.lead<Overview>("GET", "overview"),
        this.api.lead<ListedItems>("GET", "items?state=done&limit=50"),
        this.api.lead<Pins>("GET", "pins"),
        this.api.lead<ListedItems>("GET", "items?state=leased&kind=dispute"),
        this.api.lead<ListedItems>("GET", "items?state=ready&kind=dispute"),
      ]);
      this.#show(overview);
      this.#showWishes(
        pins,
        disputes.flatMap(({ items }) => items),
      );
      if (this.#finished.length <= 50)
        [this.#finished, this.#next] = [[...finished.items], finished.next];
      this.#showFinished();
      setText(byId("state"), `As of ${new Date().toLocaleTimeString()}`);
    } catch (error) {
      if (isStatus(error, 401)) location.replace("/sign-in");
      else setText(byId("state"), problemOf(error));
    }
  }

  #show({ counts, people, models, holders, throughput, set_aside }: Overview): void {
    showCounts(counts);
    this.#put("chart", throughput, () => throughputChart(throughput));
    this.#put("throughput", throughput, () => throughputTable(throughput));
    this.#put("holders", holders, () =>
      holdersTable(holders, (id, name) => void this.#release(id, name)),
    );
    this.#put("people", people, () => peopleTable(people));
    this.#put("models", models, () => modelsTable(models));
    this.#put("aside", set_aside, () =>
      asideTable(set_aside, (id, name) => void this.#reopen(id, name)),
    );
  }

  #showWishes({ pins }: Pins, disputes: readonly ListedItem[]): void {
    const unpin = (id: string, name: string): void => void this.#unpin(id, name);
    this.#put("pins", pins, () => pinsTable(pins, unpin));
    this.#put("disputes", disputes, () =>
      disputesTable(disputes, (id, name) => void this.#pin(id, name), unpin),
    );
  }

  #showFinished(): void {
    this.#put("finished", this.#finished, () =>
      finishedTable(this.#finished, (id, name) => void this.#reopen(id, name)),
    );
    byId("more").hidden = this.#next === null;
  }

  /** Replaces a part only when it changed, and keeps the focus where it was. */
  #put(id: string, data: unknown, make: () => Element): void {
    const key = JSON.stringify(data);
    if (this.#shown.get(id) === key) return;
    this.#shown.set(id, key);
    const place = byId(id);
    const focused = place.contains(document.activeElement)
      ? document.activeElement?.getAttribute("aria-label")
      : null;
    place.replaceChildren(make());
    if (focused != null)
      place.querySelector<HTMLElement>(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
  }

  async #more(): Promise<void> {
    const found = await this.api.lead<ListedItems>(
      "GET",
      `items?state=done&limit=50&after=${encodeURIComponent(this.#next ?? "")}`,
    );
    this.#finished.push(...found.items);
    this.#next = found.next;
    this.#showFinished();
  }

  async #release(itemId: string, fileName: string): Promise<void> {
    const text =
      "Whoever holds it can send nothing for it any more; their draft stays in their browser.";
    const sure = await ask(`Release ${fileName}?`, text, [
      { text: "Release", value: true, isMain: true },
      { text: "Leave it", value: false },
    ]);
    if (sure === true)
      await this.#do("POST", `items/${itemId}/release`, `${fileName} is released.`);
  }

  async #reopen(itemId: string, fileName: string): Promise<void> {
    await this.#do("POST", `items/${itemId}/reopen`, `${fileName} is open again.`);
    this.#finished = this.#finished.filter((item) => item.item_id !== itemId);
  }

  async #pin(image: string, name: string): Promise<boolean> {
    return this.#do("POST", "pins", `${name} comes first.`, { image });
  }

  async #pinTyped(): Promise<void> {
    const input = byId<HTMLInputElement>("image");
    const image = input.value.trim();
    if (image !== "" && (await this.#pin(image, image))) input.value = "";
  }

  async #unpin(imageId: string, name: string): Promise<void> {
    await this.#do("DELETE", `pins/${encodeURIComponent(imageId)}`, `${name} is pinned no more.`);
  }

  /** Whether it was done; tells what came of it either way. */
  async #do(
    method: "POST" | "DELETE",
    path: string,
    done: string,
    body?: object,
  ): Promise<boolean> {
    let isDone = false;
    try {
      await this.api.lead(method, path, body);
      isDone = true;
      say(done);
    } catch (error) {
      say(problemOf(error));
    }
    await this.#refresh();
    return isDone;
  }
}

function showCounts(counts: Counts): void {
  for (const state of ["ready", "leased", "done", "dead"] as const)
    setText(byId(state), String(counts[state]));
  const total = counts.ready + counts.leased + counts.done + counts.dead;
  const share = total === 0 ? 0 : Math.floor((100 * counts.done) / total);
  byId("bar").setAttribute("aria-valuenow", String(share));
  (byId("bar").firstElementChild as HTMLElement).style.width = `${share}%`;
  setText(
    byId("share"),
    total === 0
      ? "The queue is empty. Fill it with: maskloop assist"
      : `${share} % of ${total} items are done.`,
  );
}

let quiet = 0;

function say(text: string): void {
  setText(byId("said"), text);
  clearTimeout(quiet);
  quiet = window.setTimeout(() => setText(byId("said"), ""), 6000);
}

function problemOf(error: unknown): string {
  if (isPassing(error) && !(error instanceof Refused))
    return "The server does not answer; trying again.";
  return error instanceof Refused ? `${error.message}. ${error.remedy}` : String(error);
}

function showTheme(theme: Theme): void {
  setText(byId("theme-name"), { system: "System", light: "Light", dark: "Dark" }[theme]);
}

async function start(): Promise<void> {
  showTheme(applyTheme());
  byId("theme").addEventListener("click", () => showTheme(nextTheme()));
  const api = new Api();
  try {
    const session = await api.session();
    setText(byId("person"), session.name ?? "");
    byId("sign-out").hidden = !session.sign_in_required;
    byId("sign-out").addEventListener(
      "click",
      () => void api.signOut().finally(() => location.assign("/sign-in")),
    );
  } catch (error) {
    if (isStatus(error, 401)) return location.replace("/sign-in");
    setText(byId("state"), problemOf(error));
  }
  await new LeadPage(api).run();
}

void start();
