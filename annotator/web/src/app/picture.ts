/** The picture under the masks: one image, or tiles of the level that the screen needs. */

import type { Api } from "./api";
import type { WorkItem } from "./messages";
import { inPicture, type View } from "./view";

/** Larger pictures come as tiles. */
const WHOLE_SIDE = 2048;
const KEPT_TILES = 160;
const AT_ONCE = 6;
/** From here on single pixels are shown as squares. */
const SQUARES_FROM = 3;

export interface Picture {
  readonly width: number;
  readonly height: number;
  /** Resolves when there is something to show; rejects when it cannot be read. */
  readonly ready: Promise<void>;
  draw(context: CanvasRenderingContext2D, view: View): void;
  close(): void;
}

/** The picture of an item; `changed` is called when more of it can be drawn. */
export function pictureOf(api: Api, item: WorkItem, changed: () => void): Picture {
  const isWhole = Math.max(item.width, item.height) <= WHOLE_SIDE;
  return isWhole ? new WholePicture(api, item, changed) : new TiledPicture(api, item, changed);
}

/** Where a part of the picture lies on the canvas, in whole device pixels. */
function placed(
  view: View,
  x0: number,
  y0: number,
  x1: number,
  y1: number,
): [number, number, number, number] {
  const at = (place: number, corner: number): number =>
    Math.round((place * view.scale + corner) * view.dpr);
  const [left, top] = [at(x0, view.x), at(y0, view.y)];
  return [left, top, at(x1, view.x) - left, at(y1, view.y) - top];
}

class WholePicture implements Picture {
  readonly width: number;
  readonly height: number;
  readonly ready: Promise<void>;
  #image: ImageBitmap | null = null;
  #closed = false;

  constructor(api: Api, item: WorkItem, changed: () => void) {
    this.width = item.width;
    this.height = item.height;
    this.ready = api
      .picture(item.item_id)
      .then(createImageBitmap)
      .then((image) => {
        if (this.#closed) return image.close();
        this.#image = image;
        changed();
      });
  }

  draw(context: CanvasRenderingContext2D, view: View): void {
    if (this.#image === null) return;
    smooth(context, view.scale * view.dpr);
    context.drawImage(this.#image, ...placed(view, 0, 0, this.width, this.height));
  }

  close(): void {
    this.#closed = true;
    this.#image?.close();
    this.#image = null;
  }
}

interface Tile {
  readonly level: number;
  readonly column: number;
  readonly row: number;
}

class TiledPicture implements Picture {
  readonly width: number;
  readonly height: number;
  readonly ready: Promise<void>;
  /** The coarsest tile, of all of the picture: shown wherever a finer one is still missing. */
  readonly #ground: string;
  readonly #tiles = new Map<string, ImageBitmap>();
  readonly #asked = new Map<string, AbortController>();
  readonly #failed = new Set<string>();
  #wanted: readonly Tile[] = [];

  constructor(
    private readonly api: Api,
    private readonly item: WorkItem,
    private readonly changed: () => void,
  ) {
    this.width = item.width;
    this.height = item.height;
    const ground = { level: item.picture.levels - 1, column: 0, row: 0 };
    this.#ground = nameOf(ground);
    this.ready = this.#load(ground);
  }

  draw(context: CanvasRenderingContext2D, view: View): void {
    const level = levelFor(view, this.item.picture.levels);
    smooth(context, view.scale * view.dpr * 2 ** level);
    const tiles = this.#visible(view, level);
    for (const tile of tiles) this.#drawTile(context, view, tile);
    this.#want(tiles);
  }

  close(): void {
    for (const asked of this.#asked.values()) asked.abort();
    for (const image of this.#tiles.values()) image.close();
    this.#tiles.clear();
  }

  #visible(view: View, level: number): readonly Tile[] {
    const side = this.item.picture.tile * 2 ** level;
    const low = inPicture(view, { x: 0, y: 0 });
    const high = inPicture(view, { x: view.width, y: view.height });
    const range = (from: number, to: number, end: number): number[] => {
      const first = Math.max(0, Math.floor(from / side));
      const last = Math.min(Math.ceil(end / side), Math.ceil(to / side));
      return Array.from({ length: Math.max(0, last - first) }, (_, index) => first + index);
    };
    const columns = range(low.x, high.x, this.width);
    return range(low.y, high.y, this.height).flatMap((row) =>
      columns.map((column) => ({ level, column, row })),
    );
  }

  /** The tile, or the part of the nearest coarser one that shows the same. */
  #drawTile(context: CanvasRenderingContext2D, view: View, tile: Tile): void {
    const side = this.item.picture.tile * 2 ** tile.level;
    const [x0, y0] = [tile.column * side, tile.row * side];
    const [x1, y1] = [Math.min(this.width, x0 + side), Math.min(this.height, y0 + side)];
    for (let level = tile.level; level < this.item.picture.levels; level++) {
      const up = 2 ** (level - tile.level);
      const found = { level, column: Math.floor(tile.column / up), row: Math.floor(tile.row / up) };
      const image = this.#tiles.get(nameOf(found));
      if (image === undefined) continue;
      const [left, top] = [found.column * side * up, found.row * side * up];
      const shrink = 2 ** level;
      context.drawImage(
        image,
        (x0 - left) / shrink,
        (y0 - top) / shrink,
        (x1 - x0) / shrink,
        (y1 - y0) / shrink,
        ...placed(view, x0, y0, x1, y1),
      );
      return;
    }
  }

  #want(tiles: readonly Tile[]): void {
    this.#wanted = tiles;
    const names = new Set(tiles.map(nameOf));
    for (const [name, asked] of this.#asked) {
      if (!names.has(name) && name !== this.#ground) asked.abort();
    }
    this.#next();
  }

  #next(): void {
    for (const tile of this.#wanted) {
      if (this.#asked.size >= AT_ONCE) return;
      const name = nameOf(tile);
      if (!this.#tiles.has(name) && !this.#asked.has(name) && !this.#failed.has(name)) {
        this.#load(tile).catch(() => this.#failed.add(name));
      }
    }
  }

  async #load(tile: Tile): Promise<void> {
    const name = nameOf(tile);
    const asked = new AbortController();
    this.#asked.set(name, asked);
    try {
      const { level, column, row } = tile;
      const blob = await this.api.tile(this.item.item_id, level, column, row, asked.signal);
      this.#tiles.set(name, await createImageBitmap(blob));
      this.#forget();
      this.changed();
    } catch (error) {
      if (!asked.signal.aborted) throw error;
    } finally {
      this.#asked.delete(name);
      this.#next();
    }
  }

  /** Lets the oldest tiles go that are not in sight; the ground stays. */
  #forget(): void {
    const wanted = new Set(this.#wanted.map(nameOf)).add(this.#ground);
    for (const [name, image] of this.#tiles) {
      if (this.#tiles.size <= KEPT_TILES) return;
      if (wanted.has(name)) continue;
      image.close();
      this.#tiles.delete(name);
    }
  }
}

/** The coarsest level that still has a pixel for each device pixel. */
export function levelFor(view: Pick<View, "scale" | "dpr">, levels: number): number {
  const level = Math.floor(Math.log2(1 / (view.scale * view.dpr)));
  return Math.min(levels - 1, Math.max(0, level));
}

function nameOf({ level, column, row }: Tile): string {
  return `${level}/${column}/${row}`;
}

function smooth(context: CanvasRenderingContext2D, magnified: number): void {
  context.imageSmoothingEnabled = magnified < SQUARES_FROM;
  context.imageSmoothingQuality = magnified < 0.5 ? "medium" : "low";
}
