// Show only the inputs of the chosen action, and copy the answer as text. The page works without this script.

const action = document.querySelector("[data-action]");
const stream = document.querySelector("[data-stream]");
const revision = document.querySelector("[data-revision]");

function showNeeded() {
  for (const part of document.querySelectorAll("[data-for]")) {
    part.hidden = !part.dataset.for.split(" ").includes(action.value);
  }
}

action.addEventListener("change", showNeeded);
showNeeded();

// Revisions are those of the stream that was tried.
stream.addEventListener("change", () => {
  revision.value = "";
});

const copy = document.querySelector("[data-copy]");
copy?.addEventListener("click", async (event) => {
  const ticket = document.querySelector("[data-ticket]");
  try {
    event.preventDefault();
    await navigator.clipboard.writeText(ticket.textContent);
    copy.textContent = globalThis.declbindText("Copied");
  } catch {
    // No clipboard here (plain http, or not allowed): the text itself, selected, to be copied by hand.
    document.querySelector("#ticket").open = true;
    getSelection().selectAllChildren(ticket);
    ticket.focus();
  }
});
