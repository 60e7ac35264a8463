/** The page's client of the server: JSON in and out, and errors that say what to do. */

import type { FindAnswer, PredictAnswer, PredictRequest } from "../core/wire";
import type { LeaseAnswer, Session, Submission, WorkItem } from "./messages";

/** The server answered, but not with success. */
export class Refused extends Error {
  override name = "Refused";

  constructor(
    readonly status: number,
    /** A word for programs, such as `stale_lease`. */
    readonly error: string,
    message: string,
    readonly remedy: string,
    readonly retryAfterS: number | null,
  ) {
    super(message);
  }
}

/** The server could not be reached. */
export class Unreachable extends Error {
  override name = "Unreachable";

  constructor() {
    super("the server does not answer");
  }
}

/** Whether the same request may succeed later: nobody there, or too busy. */
export function isPassing(error: unknown): boolean {
  return (
    error instanceof Unreachable ||
    (error instanceof Refused && [429, 502, 503, 504].includes(error.status))
  );
}

export function isStatus(error: unknown, status: number): error is Refused {
  return error instanceof Refused && error.status === status;
}

interface Held {
  readonly item_id: string;
  readonly lease_token: number;
}

const TIMEOUT_MS = 30_000;

export class Api {
  /** Who works, where nobody signs in; null leaves it to the session. */
  annotator: string | null = null;
  #csrf: string | null = null;

  async session(): Promise<Session> {
    return this.#remember(await this.#json<Session>("GET", "/api/session"));
  }

  async signIn(token: string): Promise<Session> {
    return this.#remember(await this.#json<Session>("POST", "/api/session", { token }));
  }

  async signOut(): Promise<void> {
    await this.#json("DELETE", "/api/session");
  }

  lease(): Promise<LeaseAnswer> {
    return this.#json("POST", "/api/lease", this.#who());
  }

  peek(): Promise<{ item: WorkItem | null }> {
    return this.#json("POST", "/api/peek", this.#who());
  }

  heartbeat(held: Held): Promise<{ expires_in_s: number }> {
    return this.#json("POST", `/api/items/${held.item_id}/heartbeat`, this.#lease(held));
  }

  async skip(held: Held): Promise<void> {
    await this.#json("POST", `/api/items/${held.item_id}/skip`, this.#lease(held));
  }

  async submit(held: Held, key: string, submission: Submission): Promise<void> {
    const body = { ...this.#lease(held), submission };
    await this.#json("POST", `/api/items/${held.item_id}/submit`, body, { "Idempotency-Key": key });
  }

  predict(itemId: string, request: PredictRequest, signal: AbortSignal): Promise<PredictAnswer> {
    return this.#json("POST", `/api/items/${itemId}/predict`, request, {}, signal);
  }

  find(itemId: string, text: string): Promise<FindAnswer> {
    return this.#json("POST", `/api/items/${itemId}/find`, { text });
  }

  async picture(itemId: string): Promise<Blob> {
    return (await this.#fetch("GET", `/api/items/${itemId}/image`)).blob();
  }

  async tile(
    itemId: string,
    level: number,
    column: number,
    row: number,
    signal?: AbortSignal,
  ): Promise<Blob> {
    const path = `/api/items/${itemId}/tiles/${level}/${column}/${row}`;
    return (await this.#fetch("GET", path, null, {}, signal)).blob();
  }

  /** The answer of a lead's call. */
  lead<T>(
    method: "GET" | "POST" | "DELETE",
    path: string,
    body: object | null = method === "POST" ? {} : null,
  ): Promise<T> {
    return this.#json(method, `/api/lead/${path}`, body);
  }

  #who(): object {
    return this.annotator === null ? {} : { annotator: this.annotator };
  }

  #lease(held: Held): object {
    return { ...this.#who(), lease_token: held.lease_token };
  }

  #remember(session: Session): Session {
    this.#csrf = session.csrf_token;
    return session;
  }

  async #json<T>(
    method: string,
    path: string,
    body: object | null = null,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ): Promise<T> {
    const send = (): Promise<Response> => this.#fetch(method, path, body, headers, signal);
    const response = await send().catch(async (error: unknown) => {
      if (!(error instanceof Refused) || error.error !== "bad_csrf") throw error;
      // Somebody signed in anew in another tab; the session there is now has another token.
      await this.session();
      return send();
    });
    return (response.status === 204 ? undefined : await response.json()) as T;
  }

  async #fetch(
    method: string,
    path: string,
    body: object | null = null,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ): Promise<Response> {
    const sent: Record<string, string> = { ...headers };
    if (body !== null) sent["Content-Type"] = "application/json";
    if (method !== "GET" && this.#csrf !== null) sent["X-CSRF-Token"] = this.#csrf;
    const limit = AbortSignal.timeout(TIMEOUT_MS);
    const init: RequestInit = {
      method,
      headers: sent,
      signal: signal === undefined ? limit : AbortSignal.any([signal, limit]),
      ...(body === null ? {} : { body: JSON.stringify(body) }),
    };
    const response = await fetch(path, init).catch((error: unknown) => {
      if (signal?.aborted === true) throw error;
      throw new Unreachable();
    });
    if (!response.ok) throw await refusal(response);
    return response;
  }
}

async function refusal(response: Response): Promise<Refused> {
  const after = Number(response.headers.get("Retry-After") ?? Number.NaN);
  // A proxy between may answer with something else than our own form.
  const said = (await response.json().catch(() => ({}))) as Partial<
    Record<"error" | "message" | "remedy", string>
  >;
  return new Refused(
    response.status,
    said.error ?? "failed",
    said.message ?? `the server answered ${response.status}`,
    said.remedy ?? "Try again.",
    Number.isFinite(after) ? after : null,
  );
}
