// The image with its outlines: Leaflet draws tiles, and all outlines on one canvas.
import { leaflet as L } from "nicegui-leaflet";

const CLICK_PIXELS = 4; // a press that moves less is a click
const CLOSE_PIXELS = 10; // a click this near to the first corner closes the polygon
const MIN_AREA = 4; // of an outline, pixels of the image
// While one of these has the focus, keys belong to it.
const TYPING = "input:not([type=range], [type=color]), textarea, [contenteditable], .q-dialog";
const LOW = [255, 140, 66]; // colour of the smallest and of the largest similarity
const HIGH = [46, 230, 166];

/** Colour of a score, for the range of scores that are shown. */
export function ramp(score, [least, most]) {
  const share = most > least ? (score - least) / (most - least) : 1;
  const mixed = LOW.map((low, i) => Math.round(low + (HIGH[i] - low) * share));
  return `rgb(${mixed})`;
}

function areaOf(points) {
  let twice = 0;
  points.forEach(([x, y], i) => {
    const [nextX, nextY] = points[(i + 1) % points.length];
    twice += x * nextY - nextX * y;
  });
  return Math.abs(twice) / 2;
}

// Adding and removing polygons takes several times longer than not painting them.
const Outline = L.Polygon.extend({
  _updatePath() {
    if (this.options.stroke) L.Polygon.prototype._updatePath.call(this);
  },
});

const toLatLng = ([x, y]) => [-y, x];

export default {
  template: '<div class="viewer"></div>',
  props: { image: Object, colours: Object, score: String, threshold: Number, modes: Object },
  mounted() {
    this.shapes = new Map(); // id: {outline, polygon}
    this.tagColours = this.colours;
    this.hiddenTags = new Set();
    this.selected = new Set();
    this.mode = "select";
    this.limit = this.threshold ?? 0;
    this.scoreName = this.score;
    this.range = [0, 1];
    this.isVisible = true;
    this.makeMap();
    this.listenForDrawing();
    this.onKey = (event) => this.handleKey(event);
    this.onRelease = (event) => event.code === "Space" && this.setPanning(false);
    this.onThreshold = (event) => this.setThreshold(event.detail);
    window.addEventListener("keydown", this.onKey);
    window.addEventListener("keyup", this.onRelease);
    window.addEventListener("threshold", this.onThreshold);
    this.onScore = (event) => this.setScore(event.detail);
    window.addEventListener("score", this.onScore);
    // A test and a measurement look at what is shown.
    window.annotationViewer = this;
    this.$emit("ready");
  },
  unmounted() {
    window.removeEventListener("keydown", this.onKey);
    window.removeEventListener("keyup", this.onRelease);
    window.removeEventListener("threshold", this.onThreshold);
    window.removeEventListener("score", this.onScore);
    this.map.remove();
  },
  methods: {
    makeMap() {
      const { width, height, levels } = this.image;
      this.map = L.map(this.$el, {
        crs: L.CRS.Simple,
        minZoom: -levels - 1,
        maxZoom: 6,
        zoomSnap: 0,
        zoomControl: false,
        attributionControl: false,
        doubleClickZoom: false,
        boxZoom: false,
        keyboard: false,
        inertia: false,
        renderer: (this.canvas = L.canvas({ padding: 0.3 })),
      });
      this.bounds = L.latLngBounds([-height, 0], [0, width]);
      this.fit();
      this.map.on("zoomend", () => this.sharpen());
      this.sharpen();
      this.group = L.featureGroup().addTo(this.map);
      this.group.on("click", (event) => this.handleClick(event));
      this.group.bindTooltip((polygon) => this.describe(polygon.outline), { sticky: true });
      this.map.on("click", () => this.mode !== "draw" && this.select([]));
      // the preview is an SVG of its own, so that drawing does not repaint the canvas
      const style = { renderer: L.svg(), interactive: false, color: "#fff", weight: 2 };
      this.preview = L.polyline([], style).addTo(this.map);
      this.observer = new ResizeObserver(() => this.map.invalidateSize({ animate: false }));
      this.observer.observe(this.$el);
    },
    fit() {
      this.map.fitBounds(this.bounds, { animate: false, padding: [12, 12] });
    },
    sharpen() {
      this.$el.classList.toggle("enlarged", this.map.getZoom() > 1);
    },

    // Pixels

    /** Show the tiles of an address. The old ones stay until the new ones are there. */
    showTiles(url) {
      const { levels, side } = this.image;
      const tiles = L.tileLayer(url, {
        tileSize: side,
        bounds: this.bounds,
        noWrap: true,
        minNativeZoom: -levels,
        maxNativeZoom: 0,
        minZoom: -levels - 1,
        maxZoom: 6,
        keepBuffer: 1,
      });
      tiles.getTileUrl = ({ x, y, z }) =>
        L.Util.template(url, { x, y, level: Math.max(0, -z) });
      const old = this.tiles;
      this.tiles = tiles.addTo(this.map);
      tiles.once("load", () => {
        performance.mark("first picture");
        old?.remove();
      });
    },

    // Outlines

    /** Get the outlines from an address and show them. Only changes are drawn again. */
    async load(url) {
      this.lastUrl = url;
      const answer = await fetch(url);
      if (!answer.ok || url !== this.lastUrl) return;
      this.showOutlines(await answer.json());
    },
    showOutlines(outlines) {
      const found = new Set(outlines.map((outline) => outline.id));
      for (const id of [...this.shapes.keys()]) if (!found.has(id)) this.forget(id);
      for (const outline of outlines) {
        const known = this.shapes.get(outline.id);
        if (known) {
          known.outline = known.polygon.outline = outline;
        } else {
          const polygon = new Outline(outline.points.map(toLatLng), { weight: 1.5 });
          polygon.outline = outline;
          this.shapes.set(outline.id, { outline, polygon });
          this.group.addLayer(polygon);
        }
      }
      const stillSelected = [...this.selected].filter((id) => found.has(id));
      if (stillSelected.length < this.selected.size) this.select(stillSelected);
      if (!this.corners && !this.pressed) this.drawPreview([]);
      this.showScores();
    },
    showScores() {
      const outlines = [...this.shapes.values()].map((one) => one.outline);
      const scores = outlines
        .filter((one) => one.isResult && this.scoreName in one.scores)
        .map((one) => one.scores[this.scoreName]);
      this.shownScores = scores;
      this.range = scores.length ? [Math.min(...scores), Math.max(...scores)] : [0, 1];
      this.restyle();
      window.dispatchEvent(new CustomEvent("scores", { detail: scores }));
    },
    setScore(name) {
      this.scoreName = name;
      this.showScores();
    },
    forget(id) {
      this.group.removeLayer(this.shapes.get(id).polygon);
      this.shapes.delete(id);
    },
    isShown(outline) {
      const isHidden = outline.tags.some((tag) => this.hiddenTags.has(tag));
      const isBelow = outline.isResult && outline.scores[this.scoreName] < this.limit; // not without it
      return this.isVisible && !isHidden && !isBelow;
    },
    colourOf(outline) {
      const score = outline.scores[this.scoreName];
      if (outline.isResult && score !== undefined) return ramp(score, this.range);
      const tag = outline.tags.find((one) => one in this.tagColours);
      return tag === undefined ? "#8ab4f8" : this.tagColours[tag];
    },
    restyle() {
      for (const { outline, polygon } of this.shapes.values()) {
        const isSelected = this.selected.has(outline.id);
        const colour = isSelected ? "#fff" : this.colourOf(outline);
        const style = [colour, isSelected].join();
        if (polygon.styled !== style) {
          polygon.styled = style;
          polygon.setStyle({ color: colour, weight: isSelected ? 3 : 1.5, fillOpacity: 0.12 });
        }
      }
      this.hideAndShow();
    },
    /** Show and hide outlines. One repaint takes a third of the time of thousands of small ones. */
    hideAndShow() {
      for (const { outline, polygon } of this.shapes.values()) {
        const isShown = this.isShown(outline);
        const { options } = polygon;
        options.stroke = options.fill = options.interactive = isShown;
      }
      this.repaint ??= requestAnimationFrame(() => {
        this.repaint = null;
        if (this.canvas._map) this.canvas._redraw();
      });
    },
    setThreshold(threshold) {
      this.limit = threshold;
      this.hideAndShow();
    },
    setColours(colours, hiddenTags) {
      this.tagColours = colours;
      this.hiddenTags = new Set(hiddenTags);
      this.restyle();
    },
    describe(outline) {
      // textContent, because tags are text and not HTML
      const box = document.createElement("div");
      box.className = "scores";
      const lines = [outline.tags.join(", ") || "no tag"];
      for (const [name, value] of Object.entries(outline.scores)) {
        lines.push(`${name} ${Number(value).toFixed(3)}`);
      }
      for (const line of lines) box.appendChild(document.createElement("div")).textContent = line;
      return box;
    },
    shownIds() {
      return [...this.shapes.values()].filter((one) => one.polygon.options.stroke)
        .map((one) => one.outline.id);
    },

    // Selecting and marking

    /** Choose a tool at once, and tell the page. */
    setMode(mode) {
      this.$emit("mode", (this.mode = mode));
      this.$el.dataset.mode = mode;
      this.cancelDrawing();
      this.setPanning(false);
      if (mode !== "select") this.select([]);
    },
    select(ids) {
      this.selected = new Set(ids);
      this.restyle();
      this.$emit("select", [...this.selected]);
    },
    handleClick(event) {
      L.DomEvent.stop(event);
      const { id } = event.propagatedFrom.outline;
      if (this.mode === "draw") return;
      if (this.mode !== "select") {
        this.$emit("mark", { id, mode: this.mode });
      } else if (event.originalEvent.shiftKey) {
        const others = [...this.selected].filter((one) => one !== id);
        this.select(this.selected.has(id) ? others : [...others, id]);
      } else {
        this.select([id]);
      }
    },
    handleKey(event) {
      if (event.target.closest?.(TYPING)) return;
      const key = (event.ctrlKey || event.metaKey ? "ctrl+" : "") + event.key.toLowerCase();
      if (event.code === "Space") {
        event.preventDefault();
        this.setPanning(true);
      } else if (this.corners && ["escape", "enter", "backspace", "ctrl+z"].includes(key)) {
        event.preventDefault();
        if (key === "enter") this.finish(this.corners);
        else if (key === "escape" || this.corners.length === 1) this.cancelDrawing();
        else this.drawPreview((this.corners = this.corners.slice(0, -1)));
      } else if (key === "ctrl+z" || !(event.altKey || key.startsWith("ctrl+"))) {
        if (key === "ctrl+z") event.preventDefault();
        if (key in this.modes) this.setMode(this.modes[key]);
        else this.$emit("key", key);
      }
    },
    hideAll() {
      this.isVisible = !this.isVisible;
      this.hideAndShow();
    },

    // Drawing: a press that moves draws freehand, clicks place the corners of a polygon

    setPanning(isPanning) {
      const mayDrag = this.mode !== "draw" || isPanning;
      this.map.dragging[mayDrag ? "enable" : "disable"]();
      this.isPanning = isPanning;
    },
    listenForDrawing() {
      const place = (event) => this.map.mouseEventToLatLng(event);
      const element = this.$el;
      // A button that was clicked keeps the focus, and would take Space and Enter.
      element.addEventListener("pointerenter", () => {
        const { activeElement } = document; // Quasar gives the focus to a part of the button
        if (activeElement.closest("button")) activeElement.blur();
      });
      element.addEventListener("pointerdown", (event) => {
        if (this.mode !== "draw" || event.button !== 0 || this.isPanning) return;
        this.stroke = [place(event)];
        this.pressed = event;
        element.setPointerCapture(event.pointerId);
      });
      element.addEventListener("pointermove", (event) => {
        if (this.mode !== "draw") return;
        if (this.pressed) {
          this.stroke.push(...(event.getCoalescedEvents?.() ?? [event]).map(place));
          this.drawPreview([...(this.corners ?? []), ...this.stroke]);
        } else if (this.corners) {
          this.drawPreview([...this.corners, place(event)]);
        }
      });
      element.addEventListener("pointerup", (event) => {
        if (!this.pressed) return;
        const { clientX, clientY } = this.pressed;
        const moved = Math.hypot(event.clientX - clientX, event.clientY - clientY);
        const length = this.stroke.length;
        this.pressed = null;
        if (moved > CLICK_PIXELS || length > 12) this.finish([...(this.corners ?? []), ...this.stroke]);
        else this.addCorner(place(event));
      });
      element.addEventListener("pointercancel", () => this.cancelDrawing());
      element.addEventListener("dblclick", () => this.corners && this.finish(this.corners));
    },
    addCorner(corner) {
      this.corners = this.corners ?? [];
      const pixels = (latLng) => this.map.latLngToContainerPoint(latLng);
      const isClosed = this.corners.length >= 3
        && pixels(corner).distanceTo(pixels(this.corners[0])) <= CLOSE_PIXELS;
      if (isClosed) return this.finish(this.corners);
      this.corners = [...this.corners, corner];
      this.drawPreview(this.corners);
    },
    drawPreview(latLngs) {
      this.preview.setLatLngs(latLngs);
      this.$el.classList.toggle("drawing", latLngs.length > 0);
    },
    cancelDrawing() {
      this.corners = this.pressed = null;
      this.drawPreview([]);
    },
    finish(latLngs) {
      this.corners = this.pressed = null;
      const { width, height } = this.image;
      const pixels = latLngs.map((latLng) => this.map.latLngToLayerPoint(latLng));
      // a freehand outline ends near its start
      const isClosed = pixels.length > 3 && pixels[0].distanceTo(pixels.at(-1)) <= CLICK_PIXELS;
      const points = L.LineUtil.simplify(isClosed ? pixels.slice(0, -1) : pixels, 1)
        .map((pixel) => this.map.layerPointToLatLng(pixel))
        .map(({ lat, lng }) => [Math.min(Math.max(lng, 0), width), Math.min(Math.max(-lat, 0), height)]);
      if (points.length < 3 || areaOf(points) < MIN_AREA) {
        this.drawPreview([]);
        this.$emit("toosmall");
        return;
      }
      this.drawPreview([...points, points[0]].map(toLatLng));
      this.$emit("outline", points);
    },
  },
};
