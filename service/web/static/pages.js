"use strict";

// What pages can do without this, they do: here are a button to copy a command, and progress that moves.

const say = (text) => { document.getElementById("said").textContent = text; };

function addCopyButtons() {
  for (const block of document.querySelectorAll("pre")) {
    const code = block.querySelector("code");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-describedby", block.getAttribute("aria-labelledby"));
    button.addEventListener("click", async () => {
      let copied = true;
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        // Not everywhere may a page write there: then it is selected, for Ctrl+C.
        getSelection().selectAllChildren(code);
        copied = false;
      }
      button.textContent = copied ? "Copied" : "Selected";
      say(copied ? "Copied" : "Selected, to be copied");
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    block.append(button);
  }
}

const number = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 1 });

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  let value = bytes;
  for (const unit of ["KiB", "MiB", "GiB"]) {
    value /= 1024;
    if (value < 1024) return `${value.toFixed(value < 100 ? 1 : 0)} ${unit}`;
  }
  return `${number(value / 1024)} TiB`;
}

function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${number(Math.floor(whole / 3600))} h ${Math.floor((whole % 3600) / 60)} min`;
}

const moment = (text) => `${new Date(text).toISOString().slice(0, 19).replace("T", " ")} UTC`;

function follow(run) {
  const often = 2000;
  const seldom = 10000;
  let parts = null;
  let announced = -1;

  const find = (status, path) => path.split(".").reduce((value, key) => value?.[key], status);

  function show(kind, format, status) {
    for (const element of run.querySelectorAll(`[data-${kind}]`)) {
      const value = find(status, element.dataset[kind]);
      const text = value === undefined || value === null ? "–" : format(value);
      if (element.textContent !== text) element.textContent = text;
    }
  }

  function showFigures(status) {
    show("number", number, status);
    show("size", size, status);
    show("duration", duration, status);
    show("moment", moment, status);
    if (status.total === undefined) return;
    const bar = document.getElementById("bar");
    bar.max = status.total || 1;
    bar.value = status.total ? status.done : 1;
    const percent = status.total ? Math.floor((100 * status.done) / status.total) : 100;
    document.getElementById("percent").textContent = ` · ${percent} %`;
    // Each tenth is worth a word; each image is not.
    if (Math.floor(percent / 10) !== announced) {
      if (announced >= 0) say(`${percent} percent: ${number(status.done)} of ${number(status.total)} images`);
      announced = Math.floor(percent / 10);
    }
  }

  // Lists and sentences come from the server, which escapes what is in them; here nothing is made of text.
  async function showParts(status) {
    const wanted = JSON.stringify([
      status.state, status.failed, status.failures, status.rejected, status.rejections, status.tasks, status.timestamp,
    ]);
    if (wanted === parts) return;
    const answer = await fetch(location.pathname, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const state = page.querySelector(".state").textContent;
    let all = true;
    for (const old of run.querySelectorAll("[data-part]")) {
      const fresh = page.getElementById(old.id);
      if (!fresh || old.outerHTML === fresh.outerHTML) continue;
      // What somebody is about to use stays where it is, until they have gone on.
      if (old.contains(document.activeElement)) all = false;
      else old.replaceWith(fresh);
    }
    if (run.dataset.state !== status.state) say(state);
    run.dataset.state = status.state;
    parts = all ? wanted : null;
  }

  async function look() {
    let wait = often;
    try {
      if (!document.hidden) {
        const answer = await fetch(location.pathname, { headers: { Accept: "application/json" }, cache: "no-store" });
        if (!answer.ok) throw new Error(answer.statusText);
        const status = await answer.json();
        showFigures(status);
        await showParts(status);
        run.classList.remove("stale");
        if (status.state === "whole" && parts !== null) return;
        // Somebody may call it again, or Cloud Run may try a task again.
        if (status.state === "unfinished") wait = seldom;
      }
    } catch {
      if (!run.classList.contains("stale")) say("The service does not answer; trying again.");
      run.classList.add("stale");
      wait = seldom;
    }
    setTimeout(look, wait);
  }

  setTimeout(look, often);
}

addCopyButtons();
const run = document.getElementById("run");
if (run && run.dataset.state !== "whole") follow(run);
