/** Who turns prompts into masks: the browser, the server, or the better of the two. */

import { BrowserPredictor } from "./in_browser";
import { ServerPredictor } from "./on_server";
import type { Api, Predictor, Subject } from "./predictor";
import { WithServerBehind } from "./with_server_behind";

export { Superseded } from "./predictor";
export type { Api, PredictOptions, Predictor, Subject } from "./predictor";

/** Decodes in a worker of the browser; rejects items without a decoder. */
export function inBrowser(): Predictor {
  return new BrowserPredictor();
}

/** Asks the server. */
export function onServer(api: Api): Predictor {
  return new ServerPredictor(api);
}

/**
 * In the browser where it has WebAssembly and the item a decoder, else on the server, which also
 * answers what fails in the browser. Opened for `item`; use it for the next items, too.
 */
export async function best(api: Api, item: Subject): Promise<Predictor> {
  const server = onServer(api);
  const canDecode = typeof WebAssembly === "object" && typeof Worker === "function";
  const predictor = canDecode ? new WithServerBehind(inBrowser(), server) : server;
  await predictor.open(item);
  return predictor;
}
