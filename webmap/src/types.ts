// What Python tells the map, and what the map keeps of its own.

export interface MaskClass {
  value: number;
  title: string;
  /** RRGGBB */
  color: string;
  /** Whether "hide clear" hides it. */
  clear: boolean;
}

export interface Band {
  /** Position in the file, from 1. */
  index: number;
  title: string;
}

export interface Composite {
  title: string;
  bands: number[];
}

export interface LayerData {
  /** Its name in states and addresses; no secret. */
  id: string;
  title: string;
  /** Address of the tiles, with {z}, {x} and {y}. */
  url: string;
  /** West, south, east, north in degrees. */
  bounds: [number, number, number, number];
  kind: "image" | "classes";
  bands?: Band[];
  composites?: Composite[];
  classes?: MaskClass[];
  /** Whether its tiles are computed when they are asked for: only once the map is still. */
  live?: boolean;
  /** Zoom below which it has no tiles. */
  minZoom?: number;
}

export interface MapData {
  /** Names what is looked at: another one opens with a view of its own. */
  key: string;
  layers: LayerData[];
  /** Layers of each panel from bottom to top, those that are shown at first. */
  panels: string[][];
  /** Latitude and longitude of the pixel looked at. */
  point: [number, number] | null;
  /** A place to go to; `number` tells one wish from the next. */
  go: { number: number; bounds: [number, number, number, number] } | null;
  /** A map of another host, asked only once the user turns it on. */
  streets: { url: string; credit: string };
  /** What can be drawn on the map, if anything. */
  draw?: DrawData | null;
}

export interface Entry {
  id: string;
  on: boolean;
  /** 0-1 */
  opacity: number;
  /** Of an image: bands for red, green and blue, and the values drawn black and white, 0-255. */
  bands?: number[];
  low?: number;
  high?: number;
}

export type Layout = "1" | "swipe" | "2" | "3" | "4" | "6";

export interface State {
  layout: Layout;
  /** Panels, each with its layers from bottom to top. */
  panels: Entry[][];
  active: number;
  hideClear: boolean;
  outlines: boolean;
  coast: boolean;
  /** Whether the street map of another host is below; never taken from an address. */
  streets: boolean;
  /** Share of the width left of the divider, 0-1. */
  divider: number;
  /** Longitude, latitude, zoom. */
  view: [number, number, number] | null;
}

export interface Component {
  data: MapData;
  parentElement: ShadowRoot | HTMLElement;
  setTriggerValue: (name: string, value: unknown) => void;
}

export type Tool = "brush" | "lasso" | "polygon" | "rectangle";

export interface DrawClass {
  value: number;
  title: string;
  /** RRGGBB */
  color: string;
  key: string;
}

export interface DrawnShape {
  /** Corners of an area, or points of a line: longitude, latitude. */
  points: [number, number][];
  area: boolean;
  /** Of a line: how far its pixels lie from it, metres. */
  radius_m: number;
  color: string;
}

export interface DrawData {
  tools: Tool[];
  /** What a shape can be of; empty where it is an area and no more. */
  classes: DrawClass[];
  /** The shapes that Python knows. */
  shapes: DrawnShape[];
  /** Buttons that Python hears of, each with its key. */
  actions: { name: string; title: string; key: string }[];
  /** Number of the last event that Python has heard. */
  heard: number;
}

/** What Python hears of the pen, in order. */
export type PenEvent =
  | { number: number; kind: "action"; name: string }
  | {
      number: number;
      kind: "shape";
      points: [number, number][];
      area: boolean;
      radius_m: number;
      value: number | null;
    };
