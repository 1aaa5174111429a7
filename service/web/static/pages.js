"use strict";

// The pages work without this. It adds a button to copy a command, and keeps the page of a run up to date.

const announce = (text) => { document.getElementById("announcement").textContent = text; };

function addCopyButtons() {
  for (const block of document.querySelectorAll("pre")) {
    const code = block.querySelector("code");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-describedby", block.getAttribute("aria-labelledby"));
    button.addEventListener("click", async () => {
      let result = "Copied";
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        // The browser does not allow it, so select the text for Ctrl+C.
        getSelection().selectAllChildren(code);
        result = "Selected";
      }
      button.textContent = result;
      announce(result);
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    block.append(button);
  }
}

function follow(run) {
  const OFTEN = 2000;
  const SELDOM = 10000;
  const tenth = (page) => Math.floor(10 * page.querySelector("progress").position);
  const text = (page, id) => page.getElementById(id).textContent;

  function announceChanges(page) {
    if (text(page, "state") !== text(document, "state")) announce(text(page, "state"));
    else if (tenth(page) !== tenth(document)) announce(text(page, "done"));
  }

  // Returns false if a part has the focus: it stays as it is until the reader has moved on.
  function replaceParts(page) {
    let replacedAll = true;
    for (const part of run.querySelectorAll("[data-part]")) {
      const fresh = page.getElementById(part.id);
      if (!fresh || part.outerHTML === fresh.outerHTML) continue;
      if (part.contains(document.activeElement)) replacedAll = false;
      else part.replaceWith(fresh);
    }
    return replacedAll;
  }

  async function refresh() {
    let wait = OFTEN;
    try {
      if (!document.hidden) {
        const answer = await fetch(location.pathname, { headers: { Accept: "text/html" }, cache: "no-store" });
        if (!answer.ok) throw new Error(answer.statusText);
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const { state } = page.getElementById("run").dataset;
        announceChanges(page);
        const replacedAll = replaceParts(page);
        run.classList.remove("stale");
        if (state === "whole" && replacedAll) return;
        // Somebody may start the run again, or Cloud Run may retry a task.
        if (state === "unfinished") wait = SELDOM;
      }
    } catch {
      if (!run.classList.contains("stale")) announce("The service does not answer; trying again.");
      run.classList.add("stale");
      wait = SELDOM;
    }
    setTimeout(refresh, wait);
  }

  setTimeout(refresh, OFTEN);
}

addCopyButtons();
const run = document.getElementById("run");
if (run && run.dataset.state !== "whole") follow(run);
