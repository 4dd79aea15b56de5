// The state of the map: what it begins with, and how it stands in the address of the page.

import type { Entry, Layout, MapData, State } from "./types";

export const PANELS: Record<Layout, number> = { "1": 1, swipe: 2, "2": 2, "3": 3, "4": 4, "6": 6 };
const OVER_IMAGE = 0.6;
const HASH = "map=";

function entries(data: MapData, shown: string[]): Entry[] {
  return data.layers.map((layer) => ({
    id: layer.id,
    on: shown.includes(layer.id),
    opacity: layer.kind === "classes" && shown.length > 1 ? OVER_IMAGE : 1,
    ...(layer.kind === "image"
      ? { bands: layer.composites?.[0]?.bands ?? [1, 1, 1], low: 0, high: 255 }
      : {}),
  }));
}

export function begin(data: MapData): State {
  const count = Math.max(...Object.values(PANELS));
  const shown = Array.from({ length: count }, (_, at) => data.panels[at % data.panels.length] ?? []);
  return {
    layout: "1",
    panels: shown.map((ids) => entries(data, ids)),
    active: 0,
    hideClear: false,
    outlines: false,
    coast: false,
    streets: false,
    divider: 0.5,
    view: null,
  };
}

/** Brings a state to the layers there are now: new ones come on top, old ones go. */
export function adapt(state: State, data: MapData): State {
  const fresh = begin(data);
  const panels = fresh.panels.map((wanted, at) => {
    const kept = (state.panels[at] ?? wanted).filter((entry) =>
      wanted.some((other) => other.id === entry.id),
    );
    const added = wanted.filter((entry) => !kept.some((other) => other.id === entry.id));
    return [...kept, ...added];
  });
  return { ...fresh, ...state, panels };
}

/** Returns the state for the address: no data and no token is in it. */
export function write(data: MapData, state: State): string {
  const fresh = begin(data).panels;
  // Panels that are as they were at first are left out.
  const panels = state.panels.map((panel, at) =>
    JSON.stringify(panel) === JSON.stringify(fresh[at]) ? null : panel,
  );
  while (panels.length && panels[panels.length - 1] === null) panels.pop();
  return HASH + encodeURIComponent(JSON.stringify({ key: data.key, ...state, panels }));
}

/** Returns the state of an address or of the session, if it is one of this scene. */
export function read(key: string, text: string | null): State | null {
  const at = text?.indexOf(HASH) ?? -1;
  if (!text || at < 0) return null;
  try {
    const found = JSON.parse(decodeURIComponent(text.slice(at + HASH.length)));
    const { key: whose, ...state } = found;
    return whose === key && isState(state) ? { ...state, streets: false } : null;
  } catch {
    return null;
  }
}

function isState(value: State): boolean {
  const number = (item: unknown) => typeof item === "number" && Number.isFinite(item);
  return (
    value.layout in PANELS &&
    Array.isArray(value.panels) &&
    value.panels.every(
      (panel) =>
        panel === null ||
        (Array.isArray(panel) && panel.every(
          (entry) =>
            typeof entry.id === "string" &&
            number(entry.opacity) &&
            (entry.bands === undefined || (entry.bands.length === 3 && entry.bands.every(number))),
        )),
    ) &&
    number(value.active) &&
    number(value.divider) &&
    (value.view === null || (value.view.length === 3 && value.view.every(number)))
  );
}
