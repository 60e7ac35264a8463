/** Keeps a lease alive while its item is open. */

import { isPassing, isStatus, type Api } from "./api";

export interface Pulse {
  beat(expiresInS: number): void;
  lost(error: Error): void;
  signedOut(): void;
  /** The server could not be asked; it is asked again. */
  failed(error: Error): void;
}

/** Beats every `everyS` until the signal; once lost, never again. */
export function keepAlive(
  api: Api,
  held: { item_id: string; lease_token: number },
  everyS: number,
  pulse: Pulse,
  stopped: AbortSignal,
): void {
  let isBeating = false;
  const end = (): void => {
    clearInterval(timer);
    window.removeEventListener("online", beat);
  };
  const beat = async (): Promise<void> => {
    if (isBeating) return;
    isBeating = true;
    try {
      const { expires_in_s } = await api.heartbeat(held);
      if (!stopped.aborted) pulse.beat(expires_in_s);
    } catch (error) {
      if (!stopped.aborted) hear(error as Error);
    } finally {
      isBeating = false;
    }
  };
  const hear = (error: Error): void => {
    if (isStatus(error, 409) || isStatus(error, 404)) {
      end();
      pulse.lost(error);
    } else if (isStatus(error, 401)) pulse.signedOut();
    else if (isPassing(error) || isStatus(error, 500)) pulse.failed(error);
  };
  const timer = window.setInterval(beat, everyS * 1000);
  window.addEventListener("online", beat);
  stopped.addEventListener("abort", end);
}
