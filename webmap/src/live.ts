// Tiles of a mask that is computed on demand: asked for once the map is still, those in view,
// the middle first; what went out of view meanwhile is not waited for.

import type View from "ol/View";
import { unByKey } from "ol/Observable";
import type { EventsKey } from "ol/events";
import { getCenter, intersects, type Extent } from "ol/extent";
import { emptyCanvas, fetchTile, type Paint, TILE_PX, Tiles } from "./tiles";
import type { LayerData } from "./types";

const STILL_MS = 300;
const AT_A_TIME = 3;
const KEPT = 256;
const MOST_WANTED = 512;
const HATCH_PX = 16;

interface Wanted {
  zxy: [number, number, number];
  url: string;
  canvas: HTMLCanvasElement;
  /** Set while it is fetched. */
  stop?: AbortController;
}

export class LiveTiles extends Tiles {
  private readonly wanted = new Map<string, Wanted>();
  private timer = 0;
  private readonly listening: EventsKey;

  constructor(layer: LayerData, query: string, paint: Paint, private readonly view: View) {
    super(layer, query, paint);
    this.listening = view.on("change", () => this.later()) as EventsKey;
  }

  protected override async give(
    place: string, url: string, zxy: [number, number, number],
  ): Promise<HTMLCanvasElement> {
    const there = this.done.get(place)?.canvas ?? this.wanted.get(place)?.canvas;
    if (there) return there;
    const canvas = emptyCanvas();
    hatch(canvas);
    this.wanted.set(place, { zxy, url, canvas });
    if (this.wanted.size > MOST_WANTED) this.wanted.delete(this.wanted.keys().next().value as string);
    this.later();
    return canvas;
  }

  /** Looks what to fetch once nothing has moved for a moment. */
  private later(): void {
    if (!this.timer) Tiles.loading += 1;
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => {
      if (this.view.getInteracting() || this.view.getAnimating()) return this.later();
      this.rest();
      this.fetchNext();
    }, STILL_MS);
  }

  private rest(): void {
    if (this.timer) Tiles.loading -= 1;
    clearTimeout(this.timer);
    this.timer = 0;
  }

  private fetchNext(): void {
    const seen = this.view.calculateExtent();
    const zoom = this.source.getTileGrid()!.getZForResolution(this.view.getResolution() ?? 1);
    const inView = (item: Wanted) => item.zxy[0] === zoom && intersects(this.extent(item), seen);
    const all = [...this.wanted.values()];
    for (const item of all) if (item.stop && !inView(item)) item.stop.abort();
    const [x, y] = getCenter(seen);
    const far = (item: Wanted) => {
      const [left, bottom] = getCenter(this.extent(item));
      return Math.hypot(left - x, bottom - y);
    };
    let busy = all.filter((item) => item.stop && !item.stop.signal.aborted).length;
    const next = all.filter((item) => !item.stop && inView(item)).sort((a, b) => far(a) - far(b));
    for (const item of next) {
      if (busy >= AT_A_TIME) break;
      busy += 1;
      void this.compute(item);
    }
  }

  private async compute(item: Wanted): Promise<void> {
    const place = item.zxy.join("/");
    const stop = new AbortController();
    item.stop = stop;
    Tiles.loading += 1;
    try {
      const bitmap = await fetchTile(item.url, AbortSignal.any([stop.signal, this.stop.signal]));
      const context = item.canvas.getContext("2d", { willReadFrequently: true })!;
      context.clearRect(0, 0, TILE_PX, TILE_PX);
      if (bitmap) context.drawImage(bitmap, 0, 0);
      bitmap?.close();
      const tile = {
        values: context.getImageData(0, 0, TILE_PX, TILE_PX).data, canvas: item.canvas,
      };
      this.wanted.delete(place);
      this.done.set(place, tile);
      if (this.done.size > KEPT) this.done.delete(this.done.keys().next().value as string);
      this.draw(tile);
      this.source.changed();
    } catch (error) {
      item.stop = undefined;
      if (!stop.signal.aborted) {
        this.wanted.delete(place); // it stays hatched
        console.warn(`the live mask has no tile ${place}: ${String(error)}`);
      }
    } finally {
      Tiles.loading -= 1;
      if (!this.timer && !this.stop.signal.aborted) this.fetchNext();
    }
  }

  private extent(item: Wanted): Extent {
    return this.source.getTileGrid()!.getTileCoordExtent(item.zxy);
  }

  override close(): void {
    this.rest();
    unByKey(this.listening);
    super.close();
  }
}

/** Marks a tile as not there yet. */
function hatch(canvas: HTMLCanvasElement): void {
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.strokeStyle = "rgba(255, 255, 255, .55)";
  context.lineWidth = 2;
  context.beginPath();
  for (let at = -TILE_PX; at < TILE_PX; at += HATCH_PX) {
    context.moveTo(at, TILE_PX);
    context.lineTo(at + TILE_PX, 0);
  }
  context.stroke();
}
