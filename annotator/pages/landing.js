"use strict";

const EVERY_MS = 3000;
const byId = (id) => document.getElementById(id);

function show(counts) {
  for (const [state, number] of Object.entries(counts)) byId(state).textContent = String(number);
  const total = counts.ready + counts.leased + counts.done + counts.dead;
  const share = total ? Math.round((100 * counts.done) / total) : 0;
  byId("bar").setAttribute("aria-valuenow", String(share));
  byId("bar").firstElementChild.style.width = `${share}%`;
  byId("state").textContent = total
    ? `${share} % of ${total} images are done.`
    : "The queue is empty. Fill it with: maskloop assist";
}

async function refresh() {
  try {
    const response = await fetch("/api/progress");
    const answer = await response.json();
    if (response.ok) show(answer.counts);
    else byId("state").textContent = `${answer.message}. ${answer.remedy}`;
  } catch {
    byId("state").textContent = "The server does not answer; trying again.";
  }
  setTimeout(refresh, EVERY_MS);
}

byId("address").textContent = location.origin;
refresh();
