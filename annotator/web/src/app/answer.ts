/** The submission that an answer makes, exactly as annotator/submission.py reads it. */

import type { Proposal, SentDecision, SentMask, Submission } from "./messages";
import { isOpen, type Added, type Answer, type Decision, type Shape } from "./state";

/** The whole answer; every proposal must be decided. `seconds` is the time worked on it. */
export function submissionOf(
  proposals: readonly Proposal[],
  answer: Answer,
  seconds: number,
): Submission {
  return {
    decisions: proposals.map(({ proposal_id }) => ({
      ...sent(proposal_id, answer.decisions[proposal_id]),
      ...named(proposal_id, answer),
    })),
    added: answer.added
      .filter((mask) => !isOpen(mask))
      .map((mask) => ({ ...made(mask), ...foundBy(mask), ...named(mask.id, answer) })),
    complete: answer.complete,
    seconds: Math.round(seconds * 1000) / 1000,
  };
}

/** The same without the masks of single clicks, for a server that takes no more at once. */
export function lighter(submission: Submission): Submission {
  const bare = <T extends SentDecision | Submission["added"][number]>(part: T): T => {
    if (part.clicks === undefined) return part;
    return { ...part, clicks: part.clicks.map(({ segmentation: _, ...click }) => click) };
  };
  return {
    ...submission,
    decisions: submission.decisions.map(bare),
    added: submission.added.map(bare),
  };
}

/** What a mask that stands shows. */
function named(id: string, { categories, decisions }: Answer): { readonly category?: string } {
  const category = decisions[id]?.action === "rejected" ? undefined : categories[id];
  return category === undefined ? {} : { category };
}

function sent(proposal_id: string, decision: Decision | undefined): SentDecision {
  if (decision === undefined)
    throw new Error(`proposal ${proposal_id}: must be decided before it is sent`);
  if (decision.action === "accepted") return { proposal_id, action: "accepted" };
  if (decision.action === "rejected")
    return { proposal_id, action: "rejected", clicks: decision.clicks };
  return { proposal_id, action: "edited", ...made(decision) };
}

/** The text that found it, as long as no click or brush has changed it. */
function foundBy({ found }: Added): Pick<SentMask, "text" | "predicted_iou"> {
  return found === undefined ? {} : { text: found.text, predicted_iou: found.iou };
}

function made({ segmentation, clicks, box, drawn }: Shape): SentMask {
  return { segmentation, clicks, ...(box === null ? {} : { box }), drawn };
}
