"use strict";

const MOST_AT_ONCE = 20;
const at = (id) => document.getElementById(id);
const { largestBytes, largestMib, boxNeeded } = document.body.dataset;
let waiting = 0; // files that are not done
let queue = Promise.resolve(); // one file after the other

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function percentage(value) {
  return `${100 * Math.min(1, Math.max(0, value))}%`;
}

function say(message, text, isError) {
  message.textContent = text;
  message.classList.toggle("error", Boolean(isError));
  message.hidden = !text;
}

/** One radiograph on the page: its picture or the box to be drawn, what is to be read before the number, and the number. */
class Card {
  constructor(file) {
    this.file = file;
    this.root = at("card").content.firstElementChild.cloneNode(true);
    this.part(".name").textContent = file.name;
    this.part(".strength").addEventListener("input", () => this.setStrength());
    this.setStrength();
    this.box = new Box(this.part(".boxing"));
    this.box.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.box.edges()) this.say("This is no box: right must lie beyond left, and bottom beyond top.", true);
      else enqueue(() => this.score());
    });
    this.part(".another-box").addEventListener("click", () => this.showBoxing());
    at("radiographs").append(this.root);
  }

  part(selector) {
    return this.root.querySelector(selector);
  }

  say(text, isError) {
    say(this.part(".message"), text, isError);
  }

  show(part) {
    for (const name of [".boxing", ".film"]) this.part(name).hidden = name !== part;
    this.part(".answer").hidden = part !== ".film";
  }

  setStrength() {
    this.part(".overlay").style.opacity = this.part(".strength").value / 100;
  }

  async begin() {
    if (this.file.size > Number(largestBytes)) {
      this.say(`This file is larger than ${largestMib} MiB, the most that is taken.`, true);
    } else if (boxNeeded === "true") {
      await this.ask("picture", null, "Reading …", (found) => {
        this.part(".picture").src = found.picture;
        this.box.on(found.width, found.height);
        this.showBoxing();
      });
    } else {
      await this.score();
    }
  }

  showBoxing() {
    this.show(".boxing");
    this.say("This run was trained on radiographs cut to boxes: it needs the box around the joints before it can score this one.");
  }

  async score() {
    if (boxNeeded === "true") this.part(".answer").hidden = true;
    await this.ask("score?overlay=true", this.box.edges(), "Scoring …", (answer) => this.showAnswer(answer));
  }

  /** Send the file, and show what comes back, or why nothing does. */
  async ask(path, edges, meanwhile, show) {
    if (!this.root.isConnected) return; // the page was cleared while this file waited
    const form = new FormData();
    form.append("file", this.file, "radiograph"); // not the file's own name, which may be a patient's
    if (edges) EDGES.forEach((name, i) => form.append(name, edges[i]));
    this.say(meanwhile);
    try {
      const response = await fetch(path, { method: "POST", body: form });
      if (response.ok) show(await response.json());
      else this.say(`Not scored: ${await reasonOf(response)}.`, true);
    } catch {
      this.say("No answer from the server. Is it still running?", true);
    }
  }

  showAnswer(answer) {
    const remarks = answer.remarks.map((text) => element("li", text));
    this.part(".remarks").replaceChildren(...(remarks.length ? remarks : [element("li", "No remarks on this radiograph.", "none")]));
    this.part(".familiarity").textContent = answer.familiarity === null
      ? "How familiar it is to the network is not known for this run."
      : `Familiarity: ${answer.familiarity.toFixed(1)} % of the validation radiographs lie at least as far from those of training.`;
    this.part(".probability").textContent = answer.probability.toFixed(3);
    this.showScale(answer);
    this.showCalls(answer);
    this.part(".weights").textContent = `Run ${answer.run}, weights ${answer.checkpoint.slice(0, 12)}, sacro_ray ${answer.version}. ${answer.notice}`;
    this.part(".radiograph").src = answer.radiograph;
    this.part(".overlay").src = answer.overlay;
    this.part(".another-box").hidden = boxNeeded !== "true";
    this.show(".film");
    this.say("");
  }

  showScale(answer) {
    this.part(".fill").style.width = percentage(answer.probability);
    this.part(".pointer").style.left = percentage(answer.probability);
    // One line a cut-off, so that close ones do not cover each other; a stroke leads from each down through the bar.
    const cutoffs = Object.entries(answer.calls).sort((one, other) => one[1].cutoff - other[1].cutoff);
    this.part(".labels").style.height = `${1.3 * cutoffs.length}rem`;
    const parts = cutoffs.flatMap(([name, call], level) => {
      const mark = element("div", "", "mark");
      const label = element("div", `${name} ${call.cutoff.toFixed(3)}`, call.cutoff > 0.5 ? "label left" : "label");
      for (const part of [mark, label]) {
        part.style.left = percentage(call.cutoff);
        part.style.top = `${1.3 * level}rem`;
      }
      return [mark, label];
    });
    this.part(".marks").replaceChildren(...parts);
  }

  showCalls(answer) {
    const rows = Object.entries(answer.calls).map(([name, call]) => {
      const row = document.createElement("tr");
      const verdict = call.definite ? "definite" : "not definite";
      row.append(element("td", name), element("td", call.cutoff.toFixed(3)), element("td", verdict, call.definite ? "definite" : ""));
      return row;
    });
    this.part(".calls").replaceChildren(...rows);
  }
}

async function reasonOf(response) {
  try {
    return (await response.json()).detail;
  } catch {
    // What lies before the application answers with plain text.
    return { 408: "it took too long", 503: "too many at once; try again in a minute" }[response.status] || "the server gave no answer";
  }
}

function showBusy(change) {
  waiting += change;
  document.body.classList.toggle("busy", waiting > 0);
}

function enqueue(work) {
  showBusy(1);
  queue = queue.then(work).finally(() => showBusy(-1));
}

function clear() {
  // What was shown is given up, not kept in the page.
  at("radiographs").replaceChildren();
  at("again").hidden = true;
  document.body.classList.remove("used");
  say(at("message"), "");
}

function take(files) {
  if (!files.length) return;
  if (!waiting) clear();
  const taken = [...files].slice(0, MOST_AT_ONCE);
  const cards = taken.map((file) => new Card(file));
  for (const card of cards) enqueue(() => card.begin());
  if (taken.length < files.length) {
    say(at("message"), `The first ${MOST_AT_ONCE} of ${files.length} files are taken; sacro-ray score scores whole folders.`, true);
  }
  document.body.classList.add("used");
  at("again").hidden = false;
  at("file").value = "";
}

at("file").addEventListener("change", (event) => take(event.target.files));
at("again").addEventListener("click", clear);
// Anywhere on the page: a file that misses the frame would otherwise be opened by the browser.
for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
document.addEventListener("dragover", () => at("drop").classList.add("over"));
document.addEventListener("dragleave", () => at("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  at("drop").classList.remove("over");
  take(event.dataTransfer.files);
});
