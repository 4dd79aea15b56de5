// Tiles as values: fetched once, painted again whenever colours, stretch or outlines change.

import ImageTile from "ol/source/ImageTile";
import type { LayerData } from "./types";

export const TILE_PX = 256;
const KEPT = 256;
const TRIES = 4;
const MAX_ZOOM = 20;

/** Paints the values of a tile (RGBA, as the server sent them) into those of the screen. */
export type Paint = (values: Uint8ClampedArray, out: Uint8ClampedArray) => void;

export interface Tile {
  values: Uint8ClampedArray<ArrayBuffer>;
  canvas: HTMLCanvasElement;
}

export async function fetchTile(url: string, signal: AbortSignal): Promise<ImageBitmap | null> {
  for (let tried = 1; ; tried++) {
    try {
      const answer = await fetch(url, { signal });
      if (answer.status === 404) return null; // the layer does not reach this tile
      if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
      return await createImageBitmap(await answer.blob(), {
        colorSpaceConversion: "none",
        premultiplyAlpha: "none",
      });
    } catch (error) {
      if (signal.aborted || tried >= TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 250 * 2 ** tried));
    }
  }
}

export function emptyCanvas(): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = TILE_PX;
  return canvas;
}

/** The tiles of one layer; panels that show it alike share them. */
export class Tiles {
  /** Tiles that are on their way, of all layers. */
  static loading = 0;
  readonly source: ImageTile;
  private readonly kept = new Map<string, Promise<Tile>>();
  protected readonly done = new Map<string, Tile>();
  protected readonly stop = new AbortController();

  constructor(
    private readonly layer: LayerData,
    query: string,
    private paint: Paint,
  ) {
    const url = layer.url + query;
    this.source = new ImageTile({
      loader: async (z, x, y) => {
        const place = `${z}/${x}/${y}`;
        const where = url
          .replace("{z}", String(z))
          .replace("{x}", String(x))
          .replace("{y}", String(y));
        return this.give(place, where, [z, x, y]);
      },
      interpolate: false,
      transition: 0,
      maxZoom: MAX_ZOOM,
      wrapX: false,
    });
  }

  /** Returns what is drawn for a tile. */
  protected async give(place: string, url: string, _zxy: [number, number, number]): Promise<HTMLCanvasElement> {
    return (await this.keep(place, url)).canvas;
  }

  private keep(place: string, url: string): Promise<Tile> {
    let tile = this.kept.get(place);
    if (tile) this.kept.delete(place); // and comes last, as the newest
    tile ??= this.load(place, url);
    this.kept.set(place, tile);
    if (this.kept.size > KEPT) {
      const oldest = this.kept.keys().next().value as string;
      this.kept.delete(oldest);
      this.done.delete(oldest);
    }
    return tile;
  }

  private async load(place: string, url: string): Promise<Tile> {
    Tiles.loading += 1;
    try {
      const bitmap = await fetchTile(url, this.stop.signal);
      const canvas = emptyCanvas();
      const context = canvas.getContext("2d", { willReadFrequently: true })!;
      if (bitmap) context.drawImage(bitmap, 0, 0);
      bitmap?.close();
      const tile = { values: context.getImageData(0, 0, TILE_PX, TILE_PX).data, canvas };
      this.draw(tile);
      if (this.kept.has(place)) this.done.set(place, tile);
      return tile;
    } catch (error) {
      this.kept.delete(place);
      throw error;
    } finally {
      Tiles.loading -= 1;
    }
  }

  protected draw(tile: Tile): void {
    const image = new ImageData(TILE_PX, TILE_PX);
    this.paint(tile.values, image.data);
    tile.canvas.getContext("2d")!.putImageData(image, 0, 0);
  }

  /** Paints all tiles anew; nothing is fetched. */
  repaint(paint: Paint): void {
    this.paint = paint;
    for (const tile of this.done.values()) this.draw(tile);
    this.source.changed();
  }

  close(): void {
    this.stop.abort();
    this.kept.clear();
    this.done.clear();
    this.source.dispose();
  }

  get title(): string {
    return this.layer.title;
  }
}

/** Stretches an image: `low` becomes black, `high` white. */
export function stretch(low: number, high: number): Paint {
  const table = new Uint8ClampedArray(256);
  for (let value = 0; value < 256; value++) {
    table[value] = (255 * (value - low)) / Math.max(high - low, 1);
  }
  return (values, out) => {
    for (let at = 0; at < values.length; at += 4) {
      out[at] = table[values[at]];
      out[at + 1] = table[values[at + 1]];
      out[at + 2] = table[values[at + 2]];
      out[at + 3] = values[at + 3];
    }
  };
}

export interface ClassStyle {
  hideClear: boolean;
  outlines: boolean;
}

/** Gives classes their colours, hides some, or draws only the lines between them. */
export function colour(layer: LayerData, style: ClassStyle): Paint {
  const table = new Uint8Array(256 * 4);
  for (const item of layer.classes ?? []) {
    const rgb = parseInt(item.color, 16);
    const shown = !(style.hideClear && item.clear);
    table.set([rgb >> 16, (rgb >> 8) & 255, rgb & 255, shown ? 255 : 0], item.value * 4);
  }
  return (values, out) => {
    const row = TILE_PX * 4;
    for (let at = 0; at < values.length; at += 4) {
      if (values[at + 3] === 0) continue;
      const value = values[at];
      if (style.outlines && !isEdge(values, at, value, row)) continue;
      const from = value * 4;
      out[at] = table[from];
      out[at + 1] = table[from + 1];
      out[at + 2] = table[from + 2];
      out[at + 3] = table[from + 3];
    }
  };
}

/** Whether a pixel has a neighbour of another class in its tile, or no-data beside it. */
function isEdge(values: Uint8ClampedArray, at: number, value: number, row: number): boolean {
  const column = at % row;
  const differs = (other: number) => values[other] !== value || values[other + 3] === 0;
  return (
    (column > 0 && differs(at - 4)) ||
    (column < row - 4 && differs(at + 4)) ||
    (at >= row && differs(at - row)) ||
    (at + row < values.length && differs(at + row))
  );
}
