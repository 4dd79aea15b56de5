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
