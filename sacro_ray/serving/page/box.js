"use strict";

/* Drawing a box on a whole radiograph: with the pointer, or by its edges in pixels of the file's picture. */

const EDGES = ["crop_left", "crop_top", "crop_right", "crop_bottom"];

class Box {
  /** @param {Element} boxing - the part of a card with the picture, the frame and the form of the edges. */
  constructor(boxing) {
    this.frame = boxing.querySelector(".frame");
    this.shown = boxing.querySelector(".box");
    this.form = boxing.querySelector(".edges");
    this.frame.addEventListener("pointerdown", (event) => this.start(event));
    this.frame.addEventListener("pointermove", (event) => this.draw(event));
    for (const name of ["pointerup", "pointercancel"]) this.frame.addEventListener(name, () => (this.corner = null));
    this.form.addEventListener("input", () => this.show());
  }

  /** The size of the file's picture, pixels, whatever size it is shown in. */
  on(width, height) {
    this.size = [width, height];
    EDGES.forEach((name, i) => (this.form.elements[name].max = this.size[i % 2]));
  }

  /** Left, top, right, bottom as the fields say; null where they are no box. */
  edges() {
    const edges = EDGES.map((name) => this.form.elements[name].valueAsNumber);
    const [left, top, right, bottom] = edges;
    return edges.every(Number.isInteger) && left < right && top < bottom ? edges : null;
  }

  at(event) {
    const frame = this.frame.getBoundingClientRect();
    const along = [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
    return along.map((share, i) => Math.round(Math.min(1, Math.max(0, share)) * this.size[i]));
  }

  start(event) {
    event.preventDefault();
    this.corner = this.at(event);
    this.frame.setPointerCapture(event.pointerId);
  }

  draw(event) {
    if (!this.corner) return;
    const [x, y] = this.at(event);
    const [fromX, fromY] = this.corner;
    const edges = [Math.min(x, fromX), Math.min(y, fromY), Math.max(x, fromX), Math.max(y, fromY)];
    EDGES.forEach((name, i) => (this.form.elements[name].value = edges[i]));
    this.show();
  }

  show() {
    const edges = this.edges();
    this.shown.hidden = !edges;
    if (!edges) return;
    const [left, top, right, bottom] = edges.map((edge, i) => (100 * edge) / this.size[i % 2]);
    Object.assign(this.shown.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
  }
}
