/** Turns hovering, clicks and boxes into the mask in the making. */

import { iou } from "../core/mask";
import type { Answered, Box, Click } from "../core/types";
import { Superseded, type PredictOptions, type Predictor } from "../worker/predictor";
import type { LoggedClick, Proposal } from "./messages";
import { boxAround, rleOf, runsOf } from "./shapes";
import { answeredBy, shown, type Added, type Choice, type Making, type Shape } from "./state";
import type { Point } from "./view";

/** What the maker sees of the visit. */
export interface Bench {
  readonly predictor: Predictor;
  making(): Making | null;
  make(making: Making): void;
  /** Seconds since the item was opened. */
  elapsed(): number;
  /** A hover's answer, null for none. */
  hovered(answers: readonly Answered[] | null): void;
  /** The first answer to a click, while a closer look is fetched. */
  preview(answer: Answered): void;
  /** Clicks that wait for their answers changed. */
  waiting(clicks: readonly Click[]): void;
  failed(error: unknown): void;
}

interface Prompted {
  readonly making: Making;
  readonly click: LoggedClick | null;
  readonly box: Box | null;
}

export class Maker {
  #turn: Promise<void> = Promise.resolve();
  #waiting: readonly Click[] = [];
  #hovered: { readonly at: Point; readonly answers: readonly Answered[] } | null = null;
  #wanted: Point | null = null;
  #ended = false;
  /** Counts up when what waits is dropped. */
  #series = 0;

  constructor(private readonly bench: Bench) {}

  /** The item is left: later answers are nobody's. */
  end(): void {
    this.#ended = true;
  }

  /** Resolves when all that was asked is answered. */
  get settled(): Promise<void> {
    return this.#turn;
  }

  /** Forgets clicks that wait; says whether there were any. */
  drop(): boolean {
    const had = this.isWaiting;
    this.#series++;
    if (had) this.#wait([]);
    return had;
  }

  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  /** Shows what a click here would give; null shows nothing. */
  hover(at: Point | null): void {
    this.#wanted = at;
    if (at === null) return this.bench.hovered(null);
    const clicks: Click[] = [{ ...at, label: 1 }];
    this.bench.predictor
      .predict({ clicks, box: null }, { previous: null, multimask: true, hover: true })
      .then((answers) => {
        this.#hovered = { at, answers };
        if (this.#wanted !== null && !this.#ended) this.bench.hovered(answers);
      })
      .catch((error: unknown) => {
        // A hover that fails is no news: the click that may follow says so.
        if (!(error instanceof Superseded)) this.bench.hovered(null);
      });
  }

  /** Adds a click to the mask in the making, or begins one with it. */
  click(click: Click, begun: () => Promise<Making>): Promise<void> {
    const logged: LoggedClick = { ...click, at_s: round(this.bench.elapsed()) };
    this.hover(null);
    this.#wait([...this.#waiting, click]);
    return this.#inTurn(async (series) => {
      try {
        const making = this.bench.making() ?? (await begun());
        await this.#answer({ making, click: logged, box: making.box }, series);
      } finally {
        this.#wait(this.#waiting.filter((one) => one !== click));
      }
    });
  }

  /** Begins a mask with a box, or gives the one in the making this box. */
  box(box: Box, begun: () => Promise<Making>): Promise<void> {
    this.hover(null);
    return this.#inTurn(async (series) => {
      const making = this.bench.making() ?? (await begun());
      await this.#answer({ making, click: null, box }, series);
    });
  }

  /** A new mask, of nothing yet. */
  fresh(): Making {
    return {
      target: null,
      seed: [],
      box: null,
      boxed: false,
      clicks: [],
      choices: [],
      chosen: 0,
      drawn: false,
      begun_s: this.bench.elapsed(),
    };
  }

  /** A proposal to correct, as it stands now. Its own prompt gives the logits that it has no more. */
  async reopened(proposal: Proposal, now: Pick<Shape, "segmentation" | "clicks">): Promise<Making> {
    const seed = proposal.point_coords.map(([x, y]): Click => ({ x: x!, y: y!, label: 1 }));
    const [x0, y0, width, height] = proposal.bbox as [number, number, number, number];
    const box: Box | null = seed.length > 0 ? null : [x0, y0, x0 + width, y0 + height];
    const answers = await this.#ask({ clicks: seed, box }, { previous: null, multimask: true });
    const mask = runsOf(now.segmentation);
    const nearest = answers.reduce((a, b) => (iou(b.mask, mask) > iou(a.mask, mask) ? b : a));
    const choice: Choice = { segmentation: now.segmentation, iou: null, token: nearest.token };
    return {
      ...this.fresh(),
      target: proposal.proposal_id,
      seed,
      box,
      clicks: now.clicks,
      choices: [choice],
    };
  }

  /** An added mask to correct: its prompt makes its logits again; a drawn one's is the box around. */
  again(mask: Added): Making {
    const choice: Choice = { segmentation: mask.segmentation, iou: null, token: null };
    const around = mask.clicks.length > 0 ? null : boxAround(runsOf(mask.segmentation));
    return {
      ...this.fresh(),
      target: mask.id,
      box: mask.box ?? around,
      boxed: mask.box !== null,
      clicks: mask.clicks,
      choices: [choice],
      drawn: mask.drawn,
    };
  }

  async #answer({ making, click, box }: Prompted, series: number): Promise<void> {
    const clicks = [...making.seed, ...making.clicks.map(({ x, y, label }) => ({ x, y, label }))];
    if (click !== null) clicks.push({ x: click.x, y: click.y, label: click.label });
    const previous = shown(making)?.token ?? null;
    const multimask = clicks.length === 1 && box === null && previous === null;
    const known = click !== null && multimask && click.label === 1 ? this.#known(click) : null;
    const answers =
      known ?? (await this.#ask({ clicks, box }, { previous, multimask, onFirst: this.#first }));
    if (!this.#isWanted(series)) return;
    const choices = answers.map((answer): Choice => ({
      segmentation: rleOf(answer.mask),
      iou: answer.iou,
      token: answer.token,
    }));
    const chosen = best(answers);
    const last = click === null ? [] : [answeredBy(click, choices[chosen]!)];
    this.bench.make({
      ...making,
      box,
      boxed: making.boxed || click === null,
      clicks: [...making.clicks, ...last],
      choices,
      chosen,
      drawn: false,
    });
  }

  readonly #first = (answers: readonly Answered[]): void => {
    const answer = answers[best(answers)];
    if (answer !== undefined && !this.#ended) this.bench.preview(answer);
  };

  /** The pointer rested here, so the answer is there. */
  #known(click: Point): readonly Answered[] | null {
    const hovered = this.#hovered;
    return hovered !== null && hovered.at.x === click.x && hovered.at.y === click.y
      ? hovered.answers
      : null;
  }

  #ask(
    prompt: { clicks: readonly Click[]; box: Box | null },
    options: Omit<PredictOptions, "hover">,
  ): Promise<Answered[]> {
    return this.bench.predictor.predict(prompt, { ...options, hover: false });
  }

  /** One after the other: each click goes on from the answer to the one before. */
  #inTurn(work: (series: number) => Promise<void>): Promise<void> {
    const series = this.#series;
    const wanted = async (): Promise<void> => {
      if (this.#isWanted(series)) await work(series);
    };
    this.#turn = this.#turn.then(wanted).catch((error: unknown) => {
      if (this.#isWanted(series)) this.bench.failed(error);
    });
    return this.#turn;
  }

  /** Whether what was asked in a series is still waited for. */
  #isWanted(series: number): boolean {
    return !this.#ended && series === this.#series;
  }

  #wait(clicks: readonly Click[]): void {
    this.#waiting = clicks;
    if (!this.#ended) this.bench.waiting(clicks);
  }
}

/** The index of the answer that the model trusts most. */
export function best(answers: readonly Answered[]): number {
  return answers.reduce(
    (found, answer, index) => (answer.iou > answers[found]!.iou ? index : found),
    0,
  );
}

function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
