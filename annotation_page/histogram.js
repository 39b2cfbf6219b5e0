// The histogram of a score, with the threshold as a slider below it.
const BARS = 40;
const HEIGHT = 72;

export default {
  template: `
    <div class="histogram">
      <canvas ref="canvas" height="${HEIGHT}"></canvas>
      <input ref="slider" type="range" step="0.001" aria-label="Threshold">
      <div class="histogram-text"><span ref="count"></span><span ref="value"></span></div>
    </div>`,
  props: { score: String, threshold: Number },
  mounted() {
    this.scores = [];
    this.limit = this.threshold ?? 0;
    this.onScores = (event) => this.setScores(event.detail);
    window.addEventListener("scores", this.onScores);
    this.name = this.score;
    this.onName = (event) => {
      this.name = event.detail;
      this.draw();
    };
    window.addEventListener("score", this.onName);
    this.$refs.slider.addEventListener("input", () => {
      this.limit = Number(this.$refs.slider.value);
      window.dispatchEvent(new CustomEvent("threshold", { detail: this.limit }));
      this.draw();
    });
    this.$refs.slider.addEventListener("change", () => this.$emit("change", this.limit));
    this.setScores(window.annotationViewer?.shownScores ?? []);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.$el);
  },
  unmounted() {
    window.removeEventListener("scores", this.onScores);
    window.removeEventListener("score", this.onName);
  },
  methods: {
    setScores(scores) {
      this.scores = scores;
      const { slider } = this.$refs;
      const least = scores.length ? Math.min(...scores) : 0;
      const most = scores.length ? Math.max(...scores) : 1;
      this.range = [Math.floor(least * 100) / 100, Math.ceil(most * 100) / 100];
      [slider.min, slider.max] = this.range;
      slider.value = this.limit;
      this.draw();
    },
    /** Draw the bars. Those below the threshold are dim. */
    draw() {
      const { canvas, count, value } = this.$refs;
      if (!this.range) return;
      const [least, most] = this.range;
      const width = (canvas.width = canvas.clientWidth);
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, width, HEIGHT);
      const bars = new Array(BARS).fill(0);
      const span = most - least || 1;
      for (const score of this.scores) {
        bars[Math.min(BARS - 1, Math.floor(((score - least) / span) * BARS))] += 1;
      }
      const highest = Math.max(1, ...bars);
      const barWidth = width / BARS;
      bars.forEach((number, bar) => {
        const right = least + ((bar + 1) / BARS) * span;
        const height = number && Math.max(2, (number / highest) * (HEIGHT - 4));
        context.fillStyle = right <= this.limit ? "#3a4552" : "#2ee6a6";
        context.fillRect(bar * barWidth, HEIGHT - height, barWidth - 1, height);
      });
      const shown = this.scores.filter((score) => score >= this.limit).length;
      count.textContent = `${shown} of ${this.scores.length} shown`;
      value.textContent = `${this.name.toLowerCase()} ≥ ${Math.max(this.limit, least).toFixed(2)}`;
    },
  },
};
