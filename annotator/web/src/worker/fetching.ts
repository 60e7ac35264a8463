/** Bytes from the server. */

export type FetchBytes = (path: string, signal?: AbortSignal) => Promise<ArrayBuffer>;

/** The body at a path of our own server; rejects unless the server has it. */
export const fetchBytes: FetchBytes = async (path, signal) => {
  const response = await fetch(path, signal ? { signal } : {});
  if (!response.ok) throw new Error(`${path}: the server answered ${response.status}`);
  return response.arrayBuffer();
};

/** Resolves after a while; rejects when the signal comes first. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    });
  });
}
