// Draws the shapes that are finished, and the one that is being drawn, above all layers of a map.

import Feature from "ol/Feature";
import type OlMap from "ol/Map";
import type { Coordinate } from "ol/coordinate";
import LineString from "ol/geom/LineString";
import Point from "ol/geom/Point";
import Polygon from "ol/geom/Polygon";
import VectorLayer from "ol/layer/Vector";
import { getPointResolution } from "ol/proj";
import VectorSource from "ol/source/Vector";
import Circle from "ol/style/Circle";
import Fill from "ol/style/Fill";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import type { Tool } from "./types";

const PROJECTION = "EPSG:3857";
const PEN_Z = 1002;
const LEAST_PX = 3;
const LINE_PX = 2;

export interface Drawn {
  points: Coordinate[];
  area: boolean;
  radius_m: number;
  color: string;
}

export interface Sketch {
  points: Coordinate[];
  color: string;
  tool: Tool | null;
  width_px: number;
}

export class PenPaper {
  private readonly finished = new VectorSource();
  private readonly sketch = new VectorSource();
  private shown = "";

  /**
   * Lays both on a map, above the layers it has now and later; returns what takes them off. Both
   * sources live on, and would keep layers that are not taken off, with their map.
   */
  layOn(map: OlMap): () => void {
    const layers = [this.finished, this.sketch].map(
      (source) => new VectorLayer({ source, map, zIndex: PEN_Z, updateWhileInteracting: true }),
    );
    return () => {
      for (const layer of layers) {
        layer.setMap(null);
        layer.dispose();
      }
    };
  }

  show(shapes: Drawn[], sketch: Sketch): void {
    const text = JSON.stringify(shapes);
    if (text !== this.shown) {
      this.shown = text;
      this.finished.clear();
      this.finished.addFeatures(shapes.map(finishedFeature));
    }
    this.sketch.clear();
    if (sketch.points.length) this.sketch.addFeatures(sketchFeatures(sketch));
  }
}

function rgba(color: string, alpha: number): string {
  const value = parseInt(color, 16);
  return `rgba(${value >> 16}, ${(value >> 8) & 255}, ${value & 255}, ${alpha})`;
}

function finishedFeature(shape: Drawn): Feature {
  if (shape.area) {
    const feature = new Feature(new Polygon([[...shape.points, shape.points[0]]]));
    feature.setStyle([
      new Style({
        fill: new Fill({ color: rgba(shape.color, 0.22) }),
        stroke: new Stroke({ color: "#fff", width: LINE_PX + 2 }),
      }),
      new Style({ stroke: new Stroke({ color: `#${shape.color}`, width: LINE_PX }) }),
    ]);
    return feature;
  }
  const single = shape.points.length === 1;
  const feature = new Feature(single ? new Point(shape.points[0]) : new LineString(shape.points));
  // A brush is as wide as it was on the ground, whatever the zoom.
  feature.setStyle((_, resolution) => {
    const ground = getPointResolution(PROJECTION, resolution, shape.points[0]);
    const radius = Math.max(shape.radius_m / ground, LEAST_PX / 2);
    return brushStyles(single, radius, shape.color);
  });
  return feature;
}

function brushStyles(single: boolean, radius: number, color: string): Style[] {
  return ([["#fff", 1.5, 0.35], [color, 0, 0.5]] as const).map(([ink, more, alpha]) => {
    const paint = ink === "#fff" ? `rgba(255, 255, 255, ${alpha})` : rgba(ink, alpha);
    return single
      ? new Style({ image: new Circle({ radius: radius + more, fill: new Fill({ color: paint }) }) })
      : new Style({
          stroke: new Stroke({ color: paint, width: 2 * (radius + more), lineCap: "round", lineJoin: "round" }),
        });
  });
}

function sketchFeatures(sketch: Sketch): Feature[] {
  const { points, color, tool } = sketch;
  if (tool === "brush") {
    const feature = new Feature(
      points.length === 1 ? new Point(points[0]) : new LineString(points),
    );
    feature.setStyle(brushStyles(points.length === 1, sketch.width_px / 2, color));
    return [feature];
  }
  const line = new Feature(new LineString(points.length > 2 ? [...points, points[0]] : points));
  line.setStyle([
    new Style({ stroke: new Stroke({ color: "#fff", width: LINE_PX + 2 }) }),
    new Style({ stroke: new Stroke({ color: `#${color}`, width: LINE_PX, lineDash: [6, 4] }) }),
  ]);
  if (tool === "lasso") return [line];
  const corners = points.map((point) => {
    const corner = new Feature(new Point(point));
    corner.setStyle(
      new Style({
        image: new Circle({
          radius: 4,
          fill: new Fill({ color: "#fff" }),
          stroke: new Stroke({ color: `#${color}`, width: LINE_PX }),
        }),
      }),
    );
    return corner;
  });
  return [line, ...corners];
}
