"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const percent = (part, whole) => whole ? (100 * part / whole).toFixed(1) + " %" : "–";

function moveMark(id, x, y) {
  const mark = at(id + "-mark");
  if (!mark) return;
  const [left, top, width, height] = data.plot;
  mark.toggleAttribute("hidden", !(x <= 1));
  mark.setAttribute("cx", left + x * width);
  mark.setAttribute("cy", top + (1 - y) * height);
}

document.querySelectorAll(".card button").forEach((button) => {
  button.addEventListener("click", () => {
    at("enlarged").querySelector("p").textContent = button.parentElement.querySelector("figcaption .file").textContent;
    at("enlarged").querySelector("div").replaceChildren(...Array.from(button.children, (picture) => picture.cloneNode(true)));
    at("enlarged").showModal();
  });
});
