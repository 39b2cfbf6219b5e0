// Sends images to the server that are dropped anywhere on the page, or chosen.
export default {
  template: `
    <label class="dropzone">
      <input ref="input" type="file" multiple accept=".tif,.tiff,.png" hidden>
      <span ref="text">Drop a TIFF or PNG here, or <u>choose a file</u></span>
    </label>`,
  props: { limit: Number, tooLarge: String },
  mounted() {
    this.normal = this.$refs.text.innerHTML;
    this.$refs.input.addEventListener("change", () => this.send([...this.$refs.input.files]));
    this.onDrag = (event) => {
      event.preventDefault();
      document.body.classList.toggle("dropping", event.type === "dragover");
    };
    this.onDrop = (event) => {
      this.onDrag(event);
      this.send([...event.dataTransfer.files]);
    };
    for (const type of ["dragover", "dragleave"]) window.addEventListener(type, this.onDrag);
    window.addEventListener("drop", this.onDrop);
  },
  unmounted() {
    for (const type of ["dragover", "dragleave"]) window.removeEventListener(type, this.onDrag);
    window.removeEventListener("drop", this.onDrop);
  },
  methods: {
    async send(files) {
      let added = null;
      for (const file of files) {
        if (file.size > this.limit) {
          this.$emit("failed", `"${file.name}" ${this.tooLarge}`);
          continue;
        }
        this.$refs.text.textContent = `Adding ${file.name} …`;
        try {
          const url = "/page/images?" + new URLSearchParams({ name: file.name });
          const answer = await fetch(url, { method: "POST", body: file });
          const result = await answer.json();
          if (answer.ok) added = result.dataset;
          else this.$emit("failed", result.message);
        } catch {
          this.$emit("failed", `"${file.name}" was not sent. Is it still there? Try again.`);
        }
      }
      this.$refs.input.value = "";
      this.$refs.text.innerHTML = this.normal;
      if (added) this.$emit("added", added);
    },
  },
};
