/** The worker that decodes prompts, so that the page never waits. */

import { Answering } from "./answering";
import { fetchBytes } from "./fetching";
import type { Ask, Reply } from "./protocol";
import { prepareRuntime } from "./runtime";

/** A worker's own side; the types of pages know only that of a window. */
interface Port {
  onmessage: ((event: MessageEvent<Ask>) => void) | null;
  postMessage(reply: Reply, transfer: Transferable[]): void;
}

prepareRuntime();
const port = self as unknown as Port;
const answering = new Answering((reply, transfer) => port.postMessage(reply, transfer), fetchBytes);
port.onmessage = ({ data }) => void answering.hear(data);
