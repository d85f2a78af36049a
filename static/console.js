// Small comforts on top of pages that work without them.
"use strict";

document.documentElement.dataset.script = "on";

// A form that needs no button: the appearance switch, a sort order.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-send-on-change]");
  if (form) form.requestSubmit();
});

// Copy what stands in the element that the button names.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  await navigator.clipboard.writeText("value" in source ? source.value : source.textContent);
  const words = button.querySelector("[data-words]") || button;
  const before = words.textContent;
  words.textContent = "Copied";
  setTimeout(() => { words.textContent = before; }, 1600);
});

// "/" leads to the search field, as on the key printed beside it.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
  const field = document.querySelector("[role=search] input:not([type=hidden])");
  if (field) { event.preventDefault(); field.focus(); }
});

// One box ticks all rows of its table.
document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-tick-all]")) return;
  event.target.closest("table").querySelectorAll("td.tick input").forEach((box) => { box.checked = event.target.checked; });
});

// What is wrong comes first, also for those who listen.
document.getElementById("problems")?.focus();
