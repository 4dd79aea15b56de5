// The maps themselves: panels that share one view, a divider, one cursor.

import OlMap from "ol/Map";
import View from "ol/View";
import { defaults as controls } from "ol/control/defaults";
import ScaleLine from "ol/control/ScaleLine";
import Feature from "ol/Feature";
import TopoJSON from "ol/format/TopoJSON";
import Point from "ol/geom/Point";
import { defaults as interactions } from "ol/interaction/defaults";
import type BaseLayer from "ol/layer/Base";
import TileLayer from "ol/layer/Tile";
import VectorLayer from "ol/layer/Vector";
import { fromLonLat, toLonLat, transformExtent } from "ol/proj";
import type RenderEvent from "ol/render/Event";
import ImageTile from "ol/source/ImageTile";
import VectorSource from "ol/source/Vector";
import Circle from "ol/style/Circle";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import { LiveTiles } from "./live";
import { PANELS } from "./state";
import { colour, stretch, Tiles } from "./tiles";
import type { Entry, LayerData, MapData, State } from "./types";

const MAX_ZOOM = 20;
const FIT_PADDING_PX = 12;
const FIRST_SIZE = [600, 500];
const RIGHT_Z = 500;
const COAST_Z = 1000;
const POINT_Z = 1001;
const CACHED_TILES = 128;
const STREETS_ZOOM = 19;

type Clicked = (longitude: number, latitude: number) => void;

const pointStyle = [
  new Style({ image: new Circle({ radius: 7, stroke: new Stroke({ color: "#000", width: 4 }) }) }),
  new Style({ image: new Circle({ radius: 7, stroke: new Stroke({ color: "#fff", width: 2 }) }) }),
];
const coastStyle = [
  new Style({ stroke: new Stroke({ color: "rgba(0,0,0,.7)", width: 3 }) }),
  new Style({ stroke: new Stroke({ color: "#fff", width: 1 }) }),
];

interface Panel {
  map: OlMap;
  box: HTMLElement;
  /** Names of what is shown: of all of it, and right of the divider. */
  labels: [HTMLElement, HTMLElement];
  cross: HTMLElement;
  layers: Map<string, TileLayer>;
  point: VectorLayer;
  coast?: VectorLayer;
  streets?: TileLayer;
  credit: HTMLElement;
}

type Side = "whole" | "left" | "right";

/** The panels; all of them show one place. */
export class Panels {
  readonly view = new View({ center: [0, 0], zoom: 2, maxZoom: MAX_ZOOM, constrainRotation: false });
  private data: MapData;
  private panels: Panel[] = [];
  private readonly tiles = new Map<string, { tiles: Tiles; look: string }>();
  private readonly point = new VectorSource();
  private share = 0.5;
  private coast: VectorSource | null = null;

  constructor(
    private readonly root: HTMLElement,
    private readonly divider: HTMLElement,
    data: MapData,
    private readonly clicked: Clicked,
    private readonly pointed: (place: string) => void,
    private readonly assets: string,
  ) {
    this.data = data;
    this.fit(); // before there is a map, so that no tile of the whole world is asked for
  }

  get maps(): OlMap[] {
    return this.panels.map((panel) => panel.map);
  }

  take(data: MapData): void {
    this.data = data;
    this.point.clear();
    if (data.point) {
      const [latitude, longitude] = data.point;
      this.point.addFeature(new Feature(new Point(fromLonLat([longitude, latitude]))));
    }
    const known = new Set(data.layers.map((layer) => layer.url));
    for (const [key, entry] of this.tiles) {
      if (!known.has(key.split(" ")[0])) {
        entry.tiles.close();
        this.tiles.delete(key);
      }
    }
  }

  /** Brings everything on the screen to `state`. */
  show(state: State): void {
    const boxes = state.layout === "swipe" ? 1 : PANELS[state.layout];
    while (this.panels.length > boxes) this.drop();
    while (this.panels.length < boxes) this.add();
    this.root.dataset.layout = state.layout;
    this.divider.hidden = state.layout !== "swipe";
    this.moveDivider(state.divider);
    this.panels.forEach((panel, at) => {
      const swipe = state.layout === "swipe";
      const layers = swipe
        ? [...this.layersOf(panel, state, 0, "left"), ...this.layersOf(panel, state, 1, "right")]
        : this.layersOf(panel, state, at, "whole");
      this.put(panel, [...layers, ...this.extras(panel, state)]);
      panel.box.classList.toggle("active", boxes > 1 && at === state.active);
      const [left, right] = panel.labels;
      left.textContent = boxes > 1 || swipe ? title(this.data, state.panels[at]) : "";
      right.textContent = swipe ? title(this.data, state.panels[1]) : "";
      for (const label of panel.labels) label.hidden = label.textContent === "";
    });
  }

  /** Draws what is there again on both sides of the divider. */
  moveDivider(share: number): void {
    this.share = share;
    this.divider.style.left = `${share * 100}%`;
    this.divider.setAttribute("aria-valuenow", String(Math.round(share * 100)));
    this.panels[0]?.map.render();
  }

  select(changed: (at: number) => void): void {
    this.panels.forEach((panel, at) => {
      panel.box.onpointerdown = () => changed(at);
    });
  }

  fit(bounds?: [number, number, number, number]): void {
    const all = bounds ?? union(this.data.layers.map((layer) => layer.bounds));
    const size = this.panels[0]?.map.getSize() ?? FIRST_SIZE;
    if (!all) return;
    this.view.fit(transformExtent(all, "EPSG:4326", "EPSG:3857"), {
      size,
      padding: Array(4).fill(FIT_PADDING_PX),
      maxZoom: MAX_ZOOM - 1,
    });
  }

  place(): [number, number, number] {
    const [longitude, latitude] = toLonLat(this.view.getCenter() ?? [0, 0]);
    return [longitude, latitude, this.view.getZoom() ?? 2];
  }

  goTo([longitude, latitude, zoom]: [number, number, number]): void {
    this.view.setCenter(fromLonLat([longitude, latitude]));
    this.view.setZoom(zoom);
  }

  /** Returns where in the window a place is drawn. */
  pixel(latitude: number, longitude: number, at: number): [number, number] {
    const box = this.panels[at].box.getBoundingClientRect();
    const [x, y] = this.panels[at].map.getPixelFromCoordinate(fromLonLat([longitude, latitude]));
    return [box.left + x, box.top + y];
  }

  clickMiddle(): void {
    const [longitude, latitude] = this.place();
    this.clicked(longitude, latitude);
  }

  close(): void {
    while (this.panels.length) this.drop();
    for (const entry of this.tiles.values()) entry.tiles.close();
    this.tiles.clear();
  }

  /** Returns the layers of a panel's state, those that were there before among them. */
  private layersOf(panel: Panel, state: State, at: number, side: Side): TileLayer[] {
    const shown: TileLayer[] = [];
    (state.panels[at] ?? []).forEach((entry, order) => {
      const about = this.data.layers.find((item) => item.id === entry.id);
      if (!about || !entry.on) return;
      const source = this.source(about, entry, state).source;
      const key = `${side} ${about.url} ${entry.bands ?? ""}`;
      let layer = panel.layers.get(key);
      if (!layer) {
        layer = new TileLayer({
          source,
          extent: transformExtent(about.bounds, "EPSG:4326", "EPSG:3857"),
          cacheSize: CACHED_TILES,
          // A layer is drawn above its least zoom, not at it.
          minZoom: about.minZoom === undefined ? undefined : about.minZoom - 1e-6,
        });
        if (side === "left") clip(layer, () => [0, this.share]);
        if (side === "right") clip(layer, () => [this.share, 1]);
        panel.layers.set(key, layer);
      }
      layer.setOpacity(entry.opacity);
      layer.setZIndex((side === "right" ? RIGHT_Z : 0) + order);
      shown.push(layer);
    });
    return shown;
  }

  private put(panel: Panel, wanted: BaseLayer[]): void {
    const there = panel.map.getLayers().getArray();
    if (there.length === wanted.length && wanted.every((layer, at) => there[at] === layer)) return;
    panel.map.setLayers(wanted);
    for (const [key, layer] of panel.layers) {
      if (wanted.includes(layer)) continue;
      panel.layers.delete(key);
      layer.dispose(); // its source lives on, and would keep it
    }
  }

  /** Returns the tiles of a layer as it is to be drawn; they are painted anew only if need be. */
  private source(layer: LayerData, entry: Entry, state: State): Tiles {
    const image = layer.kind === "image";
    const query = image ? `?bands=${(entry.bands ?? [1, 1, 1]).join(",")}` : "?raw=1";
    const style = { hideClear: state.hideClear, outlines: state.outlines };
    const look = image ? `${entry.low} ${entry.high}` : JSON.stringify([style, layer.classes]);
    const paint = image ? stretch(entry.low ?? 0, entry.high ?? 255) : colour(layer, style);
    const key = `${layer.url} ${query}`;
    let kept = this.tiles.get(key);
    if (!kept) {
      const tiles = layer.live
        ? new LiveTiles(layer, query, paint, this.view)
        : new Tiles(layer, query, paint);
      kept = { tiles, look };
      this.tiles.set(key, kept);
    } else if (kept.look !== look) {
      kept.tiles.repaint(paint);
      kept.look = look;
    }
    return kept.tiles;
  }

  /** Coast lines and the pixel looked at; each panel has layers of its own of them. */
  private extras(panel: Panel, state: State): BaseLayer[] {
    const extras: BaseLayer[] = [];
    panel.credit.hidden = !state.streets;
    if (state.streets) {
      panel.streets ??= new TileLayer({
        source: new ImageTile({ url: this.data.streets.url, maxZoom: STREETS_ZOOM }),
        zIndex: -1,
      });
      panel.credit.textContent = this.data.streets.credit;
      extras.push(panel.streets);
    }
    if (state.coast) {
      this.coast ??= new VectorSource({
        url: `${this.assets}land-50m.json`,
        format: new TopoJSON({ layers: ["land"] }),
      });
      panel.coast ??= new VectorLayer({ source: this.coast, style: coastStyle, zIndex: COAST_Z });
      extras.push(panel.coast);
    }
    return [...extras, panel.point];
  }

  private add(): void {
    const box = document.createElement("div");
    box.className = "panel";
    box.tabIndex = 0;
    box.setAttribute("role", "application");
    box.setAttribute(
      "aria-label",
      `Map ${this.panels.length + 1}; arrow keys move it, + and - zoom, Enter looks at its middle`,
    );
    const labels: [HTMLElement, HTMLElement] = [
      document.createElement("div"),
      document.createElement("div"),
    ];
    labels.forEach((label, at) => {
      label.className = at ? "label right" : "label";
    });
    const cross = document.createElement("div");
    cross.className = "cross";
    cross.hidden = true;
    const credit = document.createElement("div");
    credit.className = "credit";
    box.append(...labels, cross, credit);
    this.root.append(box);
    const map = new OlMap({
      target: box,
      // In a shadow root OpenLayers would listen at its host: arrow keys for a slider of the list
      // would move every panel's map instead.
      keyboardEventTarget: box,
      view: this.view,
      controls: controls({ attribution: false, rotate: false, zoom: false }).extend([
        new ScaleLine({ minWidth: 70 }),
      ]),
      interactions: interactions({ altShiftDragRotate: false, pinchRotate: false }),
      layers: [],
    });
    map.on("singleclick", (event) => {
      const [longitude, latitude] = toLonLat(event.coordinate);
      this.clicked(longitude, latitude);
    });
    map.on("pointermove", (event) => {
      const [longitude, latitude] = toLonLat(event.coordinate);
      this.pointed(`${latitude.toFixed(5)}, ${longitude.toFixed(5)}`);
      for (const other of this.panels) {
        other.cross.hidden = other.map === map || this.panels.length === 1;
        other.cross.style.transform = `translate(${event.pixel[0]}px, ${event.pixel[1]}px)`;
      }
    });
    const point = new VectorLayer({ source: this.point, style: pointStyle, zIndex: POINT_Z });
    this.panels.push({ map, box, labels, cross, layers: new Map(), point, credit });
  }

  private drop(): void {
    const panel = this.panels.pop();
    if (!panel) return;
    // View and sources are shared, and would keep what still listens to them.
    panel.map.setLayers([]);
    panel.map.setView(null);
    for (const layer of [...panel.layers.values(), panel.point, panel.coast, panel.streets]) {
      layer?.dispose();
    }
    panel.map.setTarget(undefined);
    panel.map.dispose();
    panel.box.remove();
  }
}

/** Draws a layer only between two shares of the map's width. */
function clip(layer: TileLayer, between: () => [number, number]): void {
  layer.on("prerender", (event: RenderEvent) => {
    const context = event.context as CanvasRenderingContext2D;
    const [left, right] = between();
    const { width, height } = context.canvas;
    const before = context.getTransform();
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.beginPath();
    context.rect(left * width, 0, (right - left) * width, height);
    context.clip();
    context.setTransform(before);
  });
  layer.on("postrender", (event: RenderEvent) => {
    (event.context as CanvasRenderingContext2D).restore();
  });
}

function title(data: MapData, entries: Entry[] | undefined): string {
  const shown = (entries ?? []).filter((entry) => entry.on).map((entry) => entry.id);
  return shown
    .map((id) => data.layers.find((layer) => layer.id === id)?.title ?? "")
    .filter(Boolean)
    .join(" + ");
}

function union(all: LayerData["bounds"][]): LayerData["bounds"] | undefined {
  if (!all.length) return undefined;
  return all.reduce(([w, s, e, n], [west, south, east, north]) => [
    Math.min(w, west),
    Math.min(s, south),
    Math.max(e, east),
    Math.max(n, north),
  ]);
}
