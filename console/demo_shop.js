// What a merchant's own script does: hand the sale of a thank-you page to the tag.
"use strict";

// The tag loads when it likes: calls before that wait in a queue.
window.lastcookie = window.lastcookie || function () { (lastcookie.q = lastcookie.q || []).push(arguments); };

const sale = document.getElementById("sale");
if (sale) lastcookie("sale", { ...sale.dataset });

// For newcomers only: show what the tag keeps.
window.addEventListener("load", () => {
  const note = document.getElementById("click");
  const name = `_lc_${note.dataset.program}=`;
  const cookie = document.cookie.split("; ").find(pair => pair.startsWith(name));
  if (cookie) note.textContent = `A click brought you here. The tag keeps its id in this site's own cookie: ${cookie}`;
});
