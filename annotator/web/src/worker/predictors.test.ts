import { expect, test, vi } from "vitest";
import { emptyMask } from "../core/mask";
import type { Answered, Prompt } from "../core/types";
import type { Decoder, PredictAnswer, PredictRequest } from "../core/wire";
import { ServerPredictor } from "./on_server";
import { type Api, type PredictOptions, type Predictor, type Subject, Superseded } from "./predictor";
import { WithServerBehind } from "./with_server_behind";

const DECODER: Decoder = { version: "v1", side: 64, logits_side: 16, closer_look: null, urls: {} };
const ITEM: Subject = { item_id: "i 1", height: 4, width: 6, model_version: "v1", decoder: DECODER };
const PROMPT: Prompt = { clicks: [{ x: 1.5, y: 2, label: 1 }], box: [0, 0, 3, 3] };
const CLICK: PredictOptions = { previous: null, multimask: false, hover: false };

/** A server that answers with one mask. */
class Server implements Api {
  readonly requests: PredictRequest[] = [];
  readonly items: string[] = [];

  async predict(itemId: string, request: PredictRequest): Promise<PredictAnswer> {
    this.items.push(itemId);
    this.requests.push(request);
    const mask = {
      segmentation: { size: [4, 6] as [number, number], counts: "4220<" },
      predicted_iou: 0.75,
      logits: { size: [1, 1] as [number, number], float16: `AA${this.requests.length}=` },
      window: [0, 0, 2, 2] as const,
    };
    return { model_version: "v1", masks: [mask] };
  }
}

/** A browser that fails when it is told to. */
class Browser implements Predictor {
  opens = true;
  failure: Error | null = null;
  readonly asked: PredictOptions[] = [];

  async open(): Promise<void> {
    if (!this.opens) throw new Error("no embedding");
  }

  async preload(): Promise<void> {
    await this.open();
  }

  async predict(_: Prompt, options: PredictOptions): Promise<Answered[]> {
    this.asked.push(options);
    if (this.failure) throw this.failure;
    return [{ mask: emptyMask(4, 6), iou: 0.5, token: 7 }];
  }

  close(): void {
    this.opens = false;
  }
}

function both() {
  const server = new Server();
  const browser = new Browser();
  vi.spyOn(console, "warn").mockImplementation(() => undefined);
  return { server, browser, either: new WithServerBehind(browser, new ServerPredictor(server)) };
}

test("the server is asked for the prompt, and told the logits of the answer to go on from", async () => {
  const server = new Server();
  const predictor = new ServerPredictor(server);
  await predictor.open(ITEM);
  const [first] = await predictor.predict(PROMPT, { ...CLICK, multimask: true });
  const { token } = first!;
  await predictor.predict(PROMPT, { ...CLICK, previous: token });
  expect(first!.iou).toBe(0.75);
  expect([...first!.mask.starts]).toEqual([4, 8]);
  const asked = { points: [[1.5, 2]], labels: [1], box: [0, 0, 3, 3] };
  expect(server.requests).toEqual([
    { ...asked, logits: null, window: null, multimask: true },
    { ...asked, logits: { size: [1, 1], float16: "AA1=" }, window: [0, 0, 2, 2], multimask: false },
  ]);
  expect(server.items).toEqual(["i 1", "i 1"]);
});

test("tokens end with their item", async () => {
  const server = new Server();
  const predictor = new ServerPredictor(server);
  await predictor.open(ITEM);
  const [first] = await predictor.predict(PROMPT, CLICK);
  await predictor.open({ ...ITEM, item_id: "other" });
  await predictor.predict(PROMPT, { ...CLICK, previous: first!.token });
  expect(server.requests[1]!.logits).toBeNull();
});

test("nothing is asked before an item is open", async () => {
  await expect(new ServerPredictor(new Server()).predict(PROMPT, CLICK)).rejects.toThrow("after open");
});

test("the browser answers what it can", async () => {
  const { server, either } = both();
  await either.open(ITEM);
  expect((await either.predict(PROMPT, CLICK))[0]!.token).toBe(7);
  expect(server.requests).toEqual([]);
});

test("the server answers an item without a decoder, and one that the browser cannot open", async () => {
  const { server, browser, either } = both();
  await either.open({ ...ITEM, decoder: null });
  await either.predict(PROMPT, CLICK);
  browser.opens = false;
  await either.open(ITEM);
  await either.preload(ITEM);
  await either.predict(PROMPT, CLICK);
  expect(browser.asked).toEqual([]);
  expect(server.requests.length).toBe(2);
});

test("the server answers a prompt that fails in the browser, which gets the next", async () => {
  const { server, browser, either } = both();
  await either.open(ITEM);
  const [own] = await either.predict(PROMPT, CLICK);
  browser.failure = new Error("out of memory");
  const [others] = await either.predict(PROMPT, { ...CLICK, previous: own!.token });
  expect(server.requests[0]!.logits).toBeNull();
  await either.predict(PROMPT, { ...CLICK, previous: others!.token });
  expect(server.requests[1]!.logits).toEqual({ size: [1, 1], float16: "AA1=" });
  browser.failure = null;
  await either.predict(PROMPT, { ...CLICK, previous: others!.token });
  expect(browser.asked.map(({ previous }) => previous)).toEqual([null, own!.token, null, null]);
});

test("a hover that was overtaken is not asked again", async () => {
  const { server, browser, either } = both();
  await either.open(ITEM);
  browser.failure = new Superseded();
  await expect(either.predict(PROMPT, { ...CLICK, hover: true })).rejects.toBeInstanceOf(Superseded);
  expect(server.requests).toEqual([]);
});
