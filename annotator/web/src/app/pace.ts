/** The time a mask takes, shown to whoever works and kept in this page only; and the paper's rule as a hint. */

import { byId, setText } from "./dom";
import type { Visit } from "./visit";

/** People leave a mask that takes longer (Kirillov et al. 2023, section 4). */
const LONG_S = 30;
const RULE = "Prominent objects first";
const LEAVE = "Over 30 s: leave it (Esc), the next model may find it";

export class Pace {
  #seconds = 0;
  #masks = 0;

  /** An item was sent. */
  add(seconds: number, masks: number): void {
    this.#seconds += seconds;
    this.#masks += masks;
  }

  show(visit: Visit | null): void {
    const seconds = this.#seconds + (visit?.worked.seconds ?? 0);
    const masks = this.#masks + (visit?.numMade ?? 0);
    setText(byId("pace"), masks === 0 ? "–" : `${(seconds / masks).toFixed(1)} s`);
    const making = visit?.making ?? null;
    const isLong = making !== null && visit !== null && visit.elapsed - making.begun_s > LONG_S;
    setText(byId("hint"), isLong ? LEAVE : visit === null ? "" : RULE);
  }
}
