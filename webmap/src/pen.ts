// Shapes drawn on the map: brush, lasso, polygon, rectangle; by mouse, finger or keyboard.

import type OlMap from "ol/Map";
import type MapBrowserEvent from "ol/MapBrowserEvent";
import type { Coordinate } from "ol/coordinate";
import PointerInteraction from "ol/interaction/Pointer";
import { fromLonLat, getPointResolution, toLonLat } from "ol/proj";
import { PenBar } from "./penbar";
import { PenPaper } from "./penpaper";
import type { DrawClass, DrawData, PenEvent, Tool } from "./types";

const PROJECTION = "EPSG:3857";
const WIDTHS = [4, 8, 14, 24, 40, 64];
const CLOSE_PX = 9;
const STEP_PX = 2;
const MOST_WAITING = 50;
const KEPT = "cloudmask pen ";

export class Pen {
  readonly bar: PenBar;
  tool: Tool | null = null;
  /** Place of the brush's width in `WIDTHS`. */
  private width = 2;
  private chosen: DrawClass | null = null;
  private draw: DrawData | null = null;
  private points: Coordinate[] = [];
  private readonly paper = new PenPaper();
  /** Maps that can be drawn on, and what takes the paper off each. */
  private readonly maps = new Map<OlMap, () => void>();
  /** Events that Python has not answered yet; all of them are sent each time, so none is lost. */
  private waiting: PenEvent[] = [];
  private number = 0;
  /** What is drawn on: the events that wait are those of it alone. */
  private key: string | null = null;

  constructor(private tell: (events: PenEvent[]) => void) {
    this.bar = new PenBar({
      tool: (tool) => this.take(tool),
      choose: (value) => this.choose(value),
      widen: (by) => this.widen(by),
      act: (name) => this.act(name),
    });
  }

  /** Takes what Python says now; what a reload of the page kept from it is told first. */
  update(draw: DrawData | null | undefined, key: string, tell: (events: PenEvent[]) => void): void {
    this.tell = tell;
    const other = key !== this.key;
    if (other) [this.key, this.waiting] = [key, recall(key)];
    const before = this.draw;
    this.draw = draw ?? null;
    const heard = this.draw?.heard ?? 0;
    this.waiting = this.waiting.filter((event) => event.number > heard);
    this.remember();
    if (other && draw && this.waiting.length) setTimeout(() => this.tell(this.waiting));
    const classes = this.draw?.classes ?? [];
    if (!before && classes.length) {
      [this.tool, this.chosen] = [this.draw?.tools[0] ?? null, classes[0]];
    }
    if (!classes.some((item) => item.value === this.chosen?.value)) this.chosen = classes[0] ?? null;
    if (this.tool && !this.draw?.tools.includes(this.tool)) this.take(null);
    this.show();
  }

  /** Makes the maps that there are now ready to be drawn on. */
  attach(maps: OlMap[]): void {
    for (const [map, takeOff] of this.maps) {
      if (maps.includes(map)) continue;
      takeOff();
      this.maps.delete(map);
    }
    for (const map of maps) {
      if (this.maps.has(map)) continue;
      map.addInteraction(new Hand(this));
      this.maps.set(map, this.paper.layOn(map));
    }
    this.show();
  }

  /** Whether clicks are the pen's. */
  get active(): boolean {
    return this.tool !== null;
  }

  /** Does what a key stands for while the map has the focus; returns whether it stands for any. */
  press(key: string, middle: Coordinate | undefined): boolean {
    const draw = this.draw;
    if (!draw) return false;
    const action = draw.actions.find((item) => item.key === key);
    const item = draw.classes.find((one) => one.key === key);
    const tool = draw.tools.find((one) => PenBar.KEYS[one] === key);
    if (action) this.act(action.name);
    else if (item) this.choose(item.value);
    else if (tool) this.take(this.tool === tool ? null : tool);
    else if (key === "v") this.take(null);
    else if (this.active) return this.pressActive(key, middle);
    else return false;
    return true;
  }

  private pressActive(key: string, middle: Coordinate | undefined): boolean {
    if (key === "Enter" && middle) this.corner(middle);
    else if (key === "c") this.close();
    else if (key === "Backspace") this.points.pop();
    else if (key === "Escape") {
      if (!this.points.length) this.tool = null;
      this.points = [];
    } else if ((key === "," || key === ".") && this.tool === "brush") this.widen(key === "," ? -1 : 1);
    else return false;
    this.show();
    return true;
  }

  /** Begins a shape that is drawn in one go; returns whether the tool is of that kind. */
  begin(at: Coordinate): boolean {
    if (this.tool === null || this.tool === "polygon") return false;
    this.points = [at];
    this.show();
    return true;
  }

  drag(at: Coordinate): void {
    if (this.tool === "rectangle") this.points = [this.points[0], at];
    else if (distance(this.points[this.points.length - 1], at) >= STEP_PX * this.resolution) {
      this.points.push(at);
    }
    this.show();
  }

  /** Sets a corner; finishes what is complete with it. */
  corner(at: Coordinate): void {
    const first = this.points[0];
    const near = first && distance(first, at) <= CLOSE_PX * this.resolution;
    if (near && this.points.length >= 3) return this.close();
    this.points.push(at);
    if (this.tool === "brush" || (this.tool === "rectangle" && this.points.length > 1)) this.close();
    this.show();
  }

  /** Ends the shape, if it is one. */
  close(): void {
    const points = this.tool === "rectangle" ? box(this.points) : distinct(this.points);
    this.points = [];
    const area = this.tool !== "brush";
    if (points.length >= (area ? 3 : 1) && this.resolution > 0) {
      const ground = getPointResolution(PROJECTION, this.resolution, points[0]);
      this.send({
        kind: "shape",
        points: points.map((point) => toLonLat(point) as [number, number]),
        area,
        radius_m: area ? 0 : (WIDTHS[this.width] / 2) * ground,
        value: this.chosen?.value ?? null,
      });
    }
    this.show();
  }

  /** For tests. */
  get state(): object {
    return {
      tool: this.tool, value: this.chosen?.value ?? null, corners: this.points.length,
      waiting: this.waiting.length, shapes: this.draw?.shapes.length ?? 0,
    };
  }

  private get resolution(): number {
    return [...this.maps.keys()][0]?.getView().getResolution() ?? 0;
  }

  private take(tool: Tool | null): void {
    this.tool = tool;
    this.points = [];
    this.show();
  }

  private choose(value: number): void {
    this.chosen = this.draw?.classes.find((item) => item.value === value) ?? this.chosen;
    this.tool ??= this.draw?.tools[0] ?? null;
    this.show();
  }

  private widen(by: number): void {
    this.width = Math.min(Math.max(this.width + by, 0), WIDTHS.length - 1);
    this.show();
  }

  private act(name: string): void {
    this.points = [];
    this.send({ kind: "action", name });
    this.show();
  }

  private send(event: WithoutNumber): void {
    // The clock tells the events of two windows apart; it may be set back, numbers may not.
    this.number = Math.max(this.number + 1, (this.draw?.heard ?? 0) + 1, Date.now());
    this.waiting = [...this.waiting, { ...event, number: this.number }].slice(-MOST_WAITING);
    this.remember();
    this.tell(this.waiting);
  }

  /**
   * Keeps what Python has not answered yet for this window, over a reload of the page; what saves
   * is hidden so long (see the style of the viewer's frame), as it would save the state before.
   */
  private remember(): void {
    document.documentElement.toggleAttribute("data-pen-waits", this.waiting.length > 0);
    try {
      if (this.waiting.length) sessionStorage.setItem(KEPT + this.key, JSON.stringify(this.waiting));
      else sessionStorage.removeItem(KEPT + this.key);
    } catch {
      // A browser that keeps nothing still tells Python of each event at once.
    }
  }

  private show(): void {
    const color = this.chosen?.color ?? "0072B2";
    this.bar.show(this.draw, this.tool, this.chosen, this.points.length, WIDTHS[this.width]);
    const colors = new Map(this.draw?.classes.map((item) => [item.value, item.color]));
    const own = this.waiting.flatMap((event) =>
      event.kind === "shape"
        ? [{ ...event, color: (event.value !== null && colors.get(event.value)) || color }]
        : [],
    );
    const known = [...(this.draw?.shapes ?? []), ...own].map((shape) => ({
      ...shape,
      points: shape.points.map((point) => fromLonLat(point)),
    }));
    const points = this.tool === "rectangle" ? box(this.points) : this.points;
    this.paper.show(known, {
      points: points.length ? points : this.points, color, tool: this.tool,
      width_px: WIDTHS[this.width],
    });
    for (const map of this.maps.keys()) {
      map.getTargetElement()?.classList.toggle("drawing", this.active);
    }
  }
}

type WithoutNumber = PenEvent extends infer One ? (One extends PenEvent ? Omit<One, "number"> : never) : never;

/** Hears the mouse on one map. */
class Hand extends PointerInteraction {
  constructor(private readonly pen: Pen) {
    super();
  }

  override handleEvent(event: MapBrowserEvent<PointerEvent>): boolean {
    if (this.pen.tool === "polygon") {
      if (event.type === "click") {
        this.pen.corner(event.coordinate);
        return false;
      }
      if (event.type === "dblclick") {
        this.pen.close();
        return false;
      }
    }
    if (this.pen.active && event.type === "dblclick") return false;
    return super.handleEvent(event);
  }

  override handleDownEvent(event: MapBrowserEvent<PointerEvent>): boolean {
    const { button, shiftKey } = event.originalEvent;
    return button === 0 && !shiftKey && this.pen.begin(event.coordinate);
  }

  override handleDragEvent(event: MapBrowserEvent<PointerEvent>): void {
    this.pen.drag(event.coordinate);
  }

  override handleUpEvent(): boolean {
    this.pen.close();
    return false;
  }
}

function recall(key: string): PenEvent[] {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT + key) ?? "[]");
    return Array.isArray(kept) ? kept : [];
  } catch {
    return [];
  }
}

function distance(one: Coordinate, other: Coordinate): number {
  return Math.hypot(one[0] - other[0], one[1] - other[1]);
}

/** Leaves out points that lie where the one before does: a double click sets two. */
function distinct(points: Coordinate[]): Coordinate[] {
  return points.filter((point, at) => at === 0 || distance(point, points[at - 1]) > 0);
}

/** Returns the corners of the rectangle between two points; none where it has no area. */
function box(points: Coordinate[]): Coordinate[] {
  if (points.length < 2) return [];
  const [[left, top], [right, bottom]] = points;
  if (left === right || top === bottom) return [];
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}
