import { describe, expect, it } from "vitest";

import { Api, Refused, Unreachable } from "./api";
import type { Draft } from "./drafts";
import { pauseS, send, type Outcome } from "./outbox";
import { NOTHING } from "./state";

const DRAFT: Draft = {
  item_id: "item",
  lease_token: 3,
  file_name: "picture.png",
  annotator: "ada",
  idempotency_key: "the-same-key",
  answer: NOTHING,
  seconds: 1,
  opened_at: 0,
  saved_at: 0,
  lost: false,
  submission: {
    decisions: [],
    added: [
      {
        segmentation: { size: [1, 1], counts: "01" },
        clicks: [{ x: 0, y: 0, label: 1, at_s: 0, segmentation: { size: [1, 1], counts: "01" } }],
        drawn: false,
      },
    ],
    complete: false,
    seconds: 1,
  },
};

const refused = (status: number) =>
  new Refused(status, "word", "what is wrong", "what to do", null);

/** A client that answers each try with the next of these; an error is thrown. */
class Weather extends Api {
  readonly sent: [key: string, clickMasks: number][] = [];

  constructor(private readonly answers: (Error | null)[]) {
    super();
  }

  override async submit(...[, key, submission]: Parameters<Api["submit"]>): Promise<void> {
    this.sent.push([
      key,
      submission.added[0]!.clicks.filter((click) => click.segmentation !== undefined).length,
    ]);
    const answer = this.answers.shift() ?? null;
    if (answer !== null) throw answer;
  }
}

async function outcome(...answers: (Error | null)[]): Promise<{ api: Weather; outcome: Outcome }> {
  const api = new Weather(answers);
  return { api, outcome: await send(api, DRAFT, () => undefined, AbortSignal.abort()) };
}

describe("send", () => {
  it.each([
    { name: "success", error: null, kind: "sent" },
    { name: "no network", error: new Unreachable(), kind: "waits" },
    { name: "a busy queue", error: refused(503), kind: "waits" },
    { name: "a failure of the server", error: refused(500), kind: "waits" },
    { name: "no session", error: refused(401), kind: "signed out" },
    { name: "a lease that is lost", error: refused(409), kind: "lost" },
    { name: "an item that is gone", error: refused(404), kind: "lost" },
    { name: "an answer that cannot be taken", error: refused(422), kind: "refused" },
  ])("takes $name for $kind", async ({ error, kind }) => {
    expect((await outcome(error)).outcome.kind).toBe(kind);
  });

  it("leaves out the masks of clicks when all is too much, under the same key", async () => {
    const { api, outcome: end } = await outcome(refused(413), null);
    expect(end.kind).toBe("sent");
    expect(api.sent).toEqual([
      ["the-same-key", 1],
      ["the-same-key", 0],
    ]);
  });
});

describe("pauseS", () => {
  it("doubles up to half a minute, and waits as long as the server asks", () => {
    expect([1, 2, 3, 9].map((tries) => pauseS(tries, new Unreachable()))).toEqual([1, 2, 4, 30]);
    expect(pauseS(1, new Refused(503, "unavailable", "", "", 7))).toBe(7);
  });
});
