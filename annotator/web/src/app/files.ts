/** A draft as a JSON file, for work that the server takes no more. */

import type { Draft } from "./drafts";

/** Offers the draft for download, under a name made here. */
export function saveAsFile(draft: Draft): void {
  const { item_id, file_name, annotator, answer, submission, seconds } = draft;
  const text = JSON.stringify(
    { item_id, file_name, annotator, seconds, submission, answer },
    null,
    2,
  );
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `maskloop-draft-${item_id.slice(0, 12)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
