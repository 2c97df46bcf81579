"use strict";

const at = (id) => document.getElementById(id);
const largestBytes = Number(document.body.dataset.largestBytes);
const FLAGS = {
  view_not_frontal: "The header names a view that is not frontal.",
  one_side_only: "The header says that only one side is shown.",
  other_body_part: "The header names another body part.",
  spoilt_window: "The header's window could not be used.",
  simulated: "A simulated radiograph, drawn by a program.",
  small: "A small image, enlarged for the network.",
  saturated: "A quarter of the pixels is white: detail is lost.",
  low_contrast: "Hardly any contrast.",
  unfamiliar: "Unlike anything in the training set: do not rely on this score.",
};

function say(text, isError) {
  const message = at("message");
  message.textContent = text;
  message.classList.toggle("error", Boolean(isError));
  message.hidden = !text;
}

function showDrop() {
  at("answer").hidden = true;
  at("film").hidden = true;
  at("drop").hidden = false;
  at("file").value = "";
  // What was shown is given up, not kept in the page.
  at("radiograph").removeAttribute("src");
  at("overlay").removeAttribute("src");
}

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function percentage(value) {
  return `${100 * Math.min(1, Math.max(0, value))}%`;
}

function showScale(answer) {
  at("fill").style.width = percentage(answer.probability);
  at("pointer").style.left = percentage(answer.probability);
  // One line a cut-off, so that close ones do not cover each other; a stroke leads from each down through the bar.
  const cutoffs = Object.entries(answer.calls).sort((one, other) => one[1].cutoff - other[1].cutoff);
  at("labels").style.height = `${1.3 * cutoffs.length}rem`;
  const parts = cutoffs.flatMap(([name, call], level) => {
    const mark = element("div", "", "mark");
    const label = element("div", `${name} ${call.cutoff.toFixed(3)}`, call.cutoff > 0.5 ? "label left" : "label");
    for (const part of [mark, label]) {
      part.style.left = percentage(call.cutoff);
      part.style.top = `${1.3 * level}rem`;
    }
    return [mark, label];
  });
  at("marks").replaceChildren(...parts);
}

function showCalls(answer) {
  const rows = Object.entries(answer.calls).map(([name, call]) => {
    const row = document.createElement("tr");
    const verdict = call.definite ? "definite" : "not definite";
    row.append(element("td", name), element("td", call.cutoff.toFixed(3)), element("td", verdict, call.definite ? "definite" : ""));
    return row;
  });
  at("calls").replaceChildren(...rows);
}

function showAnswer(answer) {
  at("probability").textContent = answer.probability.toFixed(3);
  showScale(answer);
  showCalls(answer);
  const flags = answer.quality.map((flag) => element("li", FLAGS[flag] || flag.replaceAll("_", " ")));
  at("flags").replaceChildren(...(flags.length ? flags : [element("li", "None.", "none")]));
  at("familiarity").textContent = answer.familiarity === null
    ? "Familiarity: not known for this run."
    : `Familiarity: ${answer.familiarity.toFixed(1)} % of the validation radiographs lie at least as far from the training set.`;
  at("weights").textContent = `Run ${answer.run}, weights ${answer.checkpoint.slice(0, 12)}, sacro_ray ${answer.version}. ${answer.notice}`;
  at("radiograph").src = answer.radiograph;
  at("overlay").src = answer.overlay;
  at("drop").hidden = true;
  at("film").hidden = false;
  at("answer").hidden = false;
  say("");
}

async function reasonOf(response) {
  try {
    return (await response.json()).detail;
  } catch {
    // What lies before the application answers with plain text.
    return { 408: "it took too long", 503: "too many at once; try again in a minute" }[response.status] || "the server gave no answer";
  }
}

async function score(file) {
  if (at("drop").classList.contains("busy")) return;
  showDrop();
  if (file.size > largestBytes) {
    say(`This file is larger than ${document.body.dataset.largestMib} MiB, the most that is taken.`, true);
    return;
  }
  const form = new FormData();
  form.append("file", file, "radiograph"); // not the file's own name, which may be a patient's
  at("drop").classList.add("busy");
  say("Scoring …");
  try {
    const response = await fetch("score?overlay=true", { method: "POST", body: form });
    if (response.ok) showAnswer(await response.json());
    else say(`Not scored: ${await reasonOf(response)}.`, true);
  } catch {
    say("No answer from the server. Is it still running?", true);
  } finally {
    at("drop").classList.remove("busy");
    at("file").value = "";
  }
}

function setStrength() {
  at("overlay").style.opacity = at("strength").value / 100;
}

at("file").addEventListener("change", (event) => event.target.files.length && score(event.target.files[0]));
at("strength").addEventListener("input", setStrength);
at("again").addEventListener("click", () => {
  showDrop();
  say("No radiograph yet.");
});
// Anywhere on the page: a file that misses the frame would otherwise be opened by the browser.
for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
document.addEventListener("dragover", () => at("drop").classList.add("over"));
document.addEventListener("dragleave", () => at("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  at("drop").classList.remove("over");
  if (event.dataTransfer.files.length) score(event.dataTransfer.files[0]);
});
setStrength();
