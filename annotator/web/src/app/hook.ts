/**
 * `window.maskloop.view()`: what the page shows now, as values.
 *
 * For tests, which compare it with what the store gets, and for looking into problems.
 */

import type { Rle } from "../core/types";
import type { MaskState } from "./palette";
import { shown, type Answer } from "./state";
import type { Workplace } from "./workplace";

export interface PageView {
  readonly item_id: string | null;
  readonly lease_token: number | null;
  readonly file_name: string | null;
  readonly masks: readonly {
    readonly id: string;
    readonly state: MaskState;
    readonly segmentation: Rle;
  }[];
  readonly selected: string | null;
  /** The mask in the making. */
  readonly making: Rle | null;
  readonly hovered: boolean;
  /** Whether a first answer shows while a closer look is fetched. */
  readonly previewed: boolean;
  /** Clicks of the mask in the making that have their answers. */
  readonly clicks: number;
  /** Clicks that wait for their answers. */
  readonly waiting: number;
  readonly answer: Answer | null;
  /** Places: CSS pixels of the canvas = pixels of the picture x scale + (x, y). */
  readonly scale: number;
  readonly x: number;
  readonly y: number;
  /** Where the keyboard's crosshair is, in pixels of the picture. */
  readonly crosshair: { readonly x: number; readonly y: number } | null;
  /** Whether the canvas shows the masks as they are now. */
  readonly is_painted: boolean;
  /** The mask that the canvas shows at a pixel of the picture. */
  readonly at: (x: number, y: number) => string | null;
}

declare global {
  interface Window {
    maskloop?: { view(): PageView };
  }
}

export function installHook(workplace: Workplace): void {
  window.maskloop = { view: () => viewOf(workplace) };
}

function viewOf({ visit, stage, pointing }: Workplace): PageView {
  const making = visit?.making ?? null;
  return {
    item_id: visit?.item.item_id ?? null,
    lease_token: visit?.leaseToken ?? null,
    file_name: visit?.item.file_name ?? null,
    masks: (visit?.rows ?? []).map(({ id, state, segmentation }) => ({ id, state, segmentation })),
    selected: visit?.selected ?? null,
    making: making === null ? null : (shown(making)?.segmentation ?? null),
    hovered: visit?.hovered != null,
    previewed: visit?.preview != null,
    clicks: making?.clicks.length ?? 0,
    waiting: visit?.waiting.length ?? 0,
    answer: visit?.answer ?? null,
    scale: stage.view.scale,
    x: stage.view.x,
    y: stage.view.y,
    crosshair: pointing.crosshair,
    is_painted: stage.masks.isCurrent,
    at: (x, y) => stage.masks.at({ x, y })?.id ?? null,
  };
}
