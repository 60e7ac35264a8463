/** The page: one visit after the other, and what commands do with them. */

import type { Api } from "./api";
import { say } from "./announce";
import { Course, type Hall } from "./course";
import { ask, showKeys } from "./dialogs";
import { byId, setText } from "./dom";
import type { Draft, Drafts } from "./drafts";
import { Finder } from "./finder";
import { listen } from "./keyboard";
import type { Command } from "./keys";
import type { Counts, Lease, Session, WorkItem } from "./messages";
import { Pace } from "./pace";
import { Panel } from "./panel";
import { pictureOf, type Picture } from "./picture";
import { Pointing } from "./pointing";
import { PagePredictor } from "./predicting";
import { Saver } from "./saver";
import { Stage } from "./stage";
import { nextTheme } from "./theme";
import { showTheme, showTools, showZoom, wire } from "./toolbar";
import { messageOf, Visit, type Audience, type Change } from "./visit";

/** A mask smaller than this on the screen, in CSS pixels, is zoomed to. */
const SMALLEST = 24;

export class Workplace implements Hall, Audience {
  visit: Visit | null = null;
  readonly stage: Stage;
  readonly pointing: Pointing;
  readonly course: Course;
  readonly #panel: Panel;
  readonly #finder: Finder;
  readonly #predictor: PagePredictor;
  readonly #saver: Saver;
  readonly #pace = new Pace();
  #next: { readonly id: string; readonly picture: Picture } | null = null;
  #stale = new Set<Change>();
  #frame: number | null = null;

  constructor(
    private readonly api: Api,
    session: Session,
    drafts: Drafts,
    annotator: string,
  ) {
    this.#predictor = new PagePredictor(api);
    this.#saver = new Saver(
      drafts,
      () => setText(byId("kept"), "Kept in this browser"),
      (error) => setText(byId("kept"), `Not kept: ${messageOf(error)}`),
    );
    this.stage = new Stage(byId("stage"), (view) => showZoom(view.scale));
    this.pointing = new Pointing(
      this.stage,
      () => this.visit,
      () => this.changed("scene"),
    );
    this.#panel = new Panel(
      {
        picked: (id) => [this.visit?.select(id), this.#reveal()],
        filtered: (filter) => this.visit !== null && (this.visit.filter = filter),
        named: (category) => this.#name(category),
      },
      session.categories,
    );
    this.#finder = new Finder(api, () => this.visit);
    this.course = new Course(api, drafts, this.#saver, annotator, this);
    this.#listen();
    this.changed("answer");
  }

  // The hall of the course.

  async open(lease: Lease, draft: Draft | null): Promise<void> {
    const { item } = lease;
    this.visit?.maker.end();
    const picture = this.#next?.id === item.item_id ? this.#next.picture : this.#pictureOf(item);
    if (this.#next !== null && this.#next.picture !== picture) this.#next.picture.close();
    this.#next = null;
    const visit = new Visit(lease, draft, this.#predictor, this);
    visit.category = this.visit?.category ?? null;
    this.visit = visit;
    this.pointing.reset();
    setText(byId("subject"), item.file_name);
    this.stage.open(picture);
    this.changed("answer");
    this.#predictor.open(item).catch((error: unknown) => this.#noModel(visit, error));
    await this.#unveil(visit, picture);
  }

  close(title: string, note: string, isWaiting: boolean): void {
    this.visit?.maker.end();
    this.visit = null;
    this.stage.close();
    setText(byId("subject"), "Annotate");
    this.#curtain(title, note, isWaiting);
    this.changed("answer");
  }

  counts(counts: Counts): void {
    setText(byId("ready"), String(counts.ready));
    setText(byId("done"), String(counts.done));
  }

  expect(item: WorkItem): void {
    if (item.item_id === this.visit?.item.item_id || item.item_id === this.#next?.id) return;
    this.#next?.picture.close();
    const picture = this.#pictureOf(item);
    picture.ready.catch(() => (this.#next = null));
    this.#next = { id: item.item_id, picture };
    this.#predictor.preload(item).catch(() => undefined);
  }

  worked(seconds: number, masks: number): void {
    this.#pace.add(seconds, masks);
    say(`Sent: ${masks} masks.`);
  }

  say(text: string): void {
    say(text);
  }

  // What the page shows.

  changed(what: Change): void {
    this.#stale.add(what);
    if (what === "answer" && this.visit !== null && !this.visit.isSealed && hasChanged(this.visit))
      this.#keep(this.visit);
    this.#frame ??= requestAnimationFrame(() => this.#show());
  }

  #show(): void {
    this.#frame = null;
    const [visit, stale] = [this.visit, this.#stale];
    this.#stale = new Set();
    if (stale.has("answer") || stale.has("selection")) {
      this.stage.showMasks(visit?.shown ?? []);
      this.#panel.show(visit);
      this.#finder.show(visit);
    }
    const { scene, tool, size } = this.pointing;
    this.stage.showScene(scene);
    showTools(visit, tool, size, this.#panel.isShown, this.stage.isLow(scene.making));
  }

  #keep(visit: Visit): void {
    setText(byId("kept"), "Keeping …");
    this.#saver.soon(() => this.course.draftOf(visit));
  }

  async #unveil(visit: Visit, picture: Picture): Promise<void> {
    this.#curtain("Opening the picture", visit.item.file_name, true);
    try {
      await picture.ready;
      byId("curtain").hidden = true;
      byId("stage").focus({ preventScroll: true });
      const { length } = visit.item.proposals;
      say(`${visit.item.file_name}: ${length} ${length === 1 ? "proposal" : "proposals"}.`);
    } catch (error) {
      this.#curtain(
        "The picture cannot be shown",
        `${messageOf(error)}. Skip it with S, or load this page again.`,
        false,
      );
    }
  }

  #curtain(title: string, note: string, isWaiting: boolean): void {
    setText(byId("curtain-title"), title);
    setText(byId("curtain-note"), note);
    byId("curtain").classList.toggle("waiting", isWaiting);
    byId("curtain").hidden = false;
  }

  #pictureOf(item: WorkItem): Picture {
    return pictureOf(this.api, item, () => this.stage.redraw());
  }

  #noModel(visit: Visit, error: unknown): void {
    if (this.visit === visit)
      say(`The model is not there for clicks: ${messageOf(error)}. Deciding and brushing work.`);
  }

  // What commands do.

  run(command: Command): void {
    const act = this.#commands[command];
    act();
  }

  readonly #commands: Record<Command, () => void> = {
    "accept-mask": () => void this.visit?.accept(),
    cancel: () => this.pointing.leave() || this.visit?.cancel(),
    "add-here": () => this.pointing.here(false),
    "remove-here": () => this.pointing.here(true),
    "corner-here": () => this.pointing.cornerHere(),
    crosshair: () => this.pointing.toggleCrosshair(),
    left: () => this.pointing.arrow(-1, 0, false),
    right: () => this.pointing.arrow(1, 0, false),
    up: () => this.pointing.arrow(0, -1, false),
    down: () => this.pointing.arrow(0, 1, false),
    "far-left": () => this.pointing.arrow(-1, 0, true),
    "far-right": () => this.pointing.arrow(1, 0, true),
    "far-up": () => this.pointing.arrow(0, -1, true),
    "far-down": () => this.pointing.arrow(0, 1, true),
    "tool-click": () => this.pointing.use("click"),
    "tool-brush": () => this.pointing.use("brush"),
    "tool-eraser": () => this.pointing.use("eraser"),
    smaller: () => this.pointing.resize(1 / 1.2),
    larger: () => this.pointing.resize(1.2),
    whole: () => this.visit?.choose(0),
    part: () => this.visit?.choose(1),
    subpart: () => this.visit?.choose(2),
    "next-proposal": () => [this.visit?.step(1), this.#reveal()],
    "previous-proposal": () => [this.visit?.step(-1), this.#reveal()],
    accept: () => this.visit?.decide("accepted"),
    reject: () => this.visit?.decide("rejected"),
    delete: () => this.visit?.remove(),
    edit: () => void this.#edit(),
    "accept-listed": () => this.visit?.acceptListed(),
    confirm: () => this.visit?.confirm(),
    find: () => this.#finder.focus(),
    "confirm-listed": () => this.visit?.confirmListed(),
    undo: () => this.visit?.undo(),
    redo: () => this.visit?.redo(),
    submit: () => void this.#submit(),
    "next-image": () => void this.#submit(),
    "previous-image": () => void this.#back(),
    skip: () => this.visit !== null && void this.course.skip(this.visit),
    complete: () => this.#complete(this.visit?.answer.complete !== true),
    "zoom-in": () => this.stage.zoom(1.25),
    "zoom-out": () => this.stage.zoom(1 / 1.25),
    fit: () => this.stage.fit(),
    hide: () => undefined,
    list: () => [this.#panel.toggle(), this.changed("selection")],
    "next-region": () => nextRegion(),
    theme: () => showTheme(nextTheme()),
    help: () => showKeys(),
  };

  #reveal(): void {
    const row = this.visit?.row(this.visit.selected) ?? null;
    if (row !== null) this.stage.reveal(row.box, SMALLEST);
  }

  #name(category: string | null): void {
    const visit = this.visit;
    const row = visit?.row(visit.selected) ?? null;
    if (visit === null) return;
    if (row === null) visit.category = category;
    else visit.act({ kind: "name", id: row.id, category });
  }

  #complete(complete: boolean): void {
    this.visit?.act({ kind: "complete", complete });
    say(complete ? "Every object has its mask." : "Some objects have no mask yet.");
  }

  async #edit(): Promise<void> {
    const visit = this.visit;
    if (visit === null || visit.making !== null) return;
    if (visit.selected === null) return say("Select a mask first: Tab, or a click on it.");
    try {
      await visit.edit(visit.selected);
    } catch (error) {
      say(`It cannot be taken up by clicks: ${messageOf(error)}. The brush works.`);
    }
  }

  async #submit(): Promise<void> {
    const visit = this.visit;
    if (visit === null || visit.isSealed)
      return say(visit === null ? "Nothing to submit." : "This answer is on its way.");
    if (!(await finished(visit))) return;
    await this.course.submit(visit);
  }

  async #back(): Promise<void> {
    if (this.visit !== null && (await this.course.takeBack(this.visit)))
      return say("The answer is taken back; go on.");
    say("The previous picture was sent and is no longer held here. A lead can open it again.");
  }

  #listen(): void {
    wire((command) => this.run(command));
    listen(byId("stage"), {
      run: (command) => this.run(command),
      hide: (hidden) => {
        this.stage.masks.hidden = hidden;
        this.pointing.pan(hidden);
      },
    });
    byId("complete").addEventListener("change", (event) =>
      this.#complete((event.target as HTMLInputElement).checked),
    );
    this.#watchWork();
    setInterval(() => this.#pace.show(this.visit), 1000);
  }

  /** Seconds count while the page is in sight; drafts are written before it goes. */
  #watchWork(): void {
    const touched = (): void => this.visit?.worked.touch();
    for (const name of ["pointermove", "pointerdown", "keydown", "wheel"]) {
      window.addEventListener(name, touched, { passive: true });
    }
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") return this.visit?.worked.show();
      this.visit?.worked.hide();
      void this.#saver.flush();
    });
    window.addEventListener("pagehide", () => void this.#saver.flush());
  }
}

/** Asks what is to become of what is unfinished; says whether the answer can be sent then. */
async function finished(visit: Visit): Promise<boolean> {
  await visit.maker.settled;
  if (visit.making !== null) {
    const wanted = await ask("A mask is still in the making", "What is to become of it?", [
      { text: "Accept it", value: "accept", isMain: true },
      { text: "Drop it", value: "drop" },
      { text: "Go back", value: "back" },
    ]);
    if (wanted === "accept" ? !visit.finish() : wanted !== "drop") return false;
    if (wanted === "drop") visit.act({ kind: "cancel" });
  }
  const waiting = visit.undecided.map((row) => row.id);
  if (waiting.length === 0) return true;
  const wanted = await ask(
    waiting.length === 1 ? "1 proposal is undecided" : `${waiting.length} proposals are undecided`,
    "Each needs a decision before this picture is sent.",
    [
      { text: "Accept them", value: "accepted" as const },
      { text: "Reject them", value: "rejected" as const },
      { text: "Go back", value: null, isMain: true },
    ],
  );
  if (wanted === null) return false;
  visit.act({ kind: "decide", ids: waiting, action: wanted, category: visit.category });
  return true;
}

/** From the picture to the tools, to the list, and back. */
function nextRegion(): void {
  const regions = [byId("stage"), byId("tools").querySelector("button")!, byId("list")];
  const at = regions.findIndex(
    (region) =>
      region === document.activeElement ||
      (region.parentElement?.contains(document.activeElement) === true && region !== regions[0]),
  );
  const shown = [...regions.slice(at + 1), ...regions].find((region) => region.checkVisibility());
  shown?.focus();
}

/** Whether there is anything to keep; a visit that was only looked at leaves no draft. */
function hasChanged(visit: Visit): boolean {
  return visit.canUndo || visit.canRedo;
}
