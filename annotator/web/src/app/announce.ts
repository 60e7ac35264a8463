/** What happened, for eyes in the bar below and for screen readers. */

import { byId } from "./dom";

/** Says `text`; the same text twice is heard twice. */
export function say(text: string): void {
  const place = byId("said");
  place.replaceChildren(text, place.textContent?.endsWith("\u00a0") === true ? "" : "\u00a0");
}
