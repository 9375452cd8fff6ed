// The option of `vadlite fit` that leaves out what is marked.
const marks = Array.from(document.querySelectorAll(".mark input"));
const quoted = (name) => /^[\w.,:+@%/][\w.,:+@%/-]*$/.test(name) ? name : "'" + name.replaceAll("'", "'\\''") + "'";

function option() {
  const { keyword, named, itself } = data.leaveOut;
  const isLeftOut = (box) => box.closest("[data-left-out]") !== null;
  const names = (boxes) => boxes.map((box) => box.dataset.name);
  const marked = names(marks.filter((box) => box.checked && !isLeftOut(box)));
  const kept = names(marks.filter((box) => !box.checked && isLeftOut(box)));
  // What is to stay although it was left out by itself stays only where nothing is: the others have to be named then.
  const keywords = kept.length ? ["none"] : keyword ? [keyword] : [];
  const all = [...named, ...(kept.length ? itself.filter((name) => !kept.includes(name)) : []), ...marked];
  // A name that looks like an option has to be tied to this one.
  const [dashed, plain] = [true, false].map((wanted) => all.filter((name) => name.startsWith("-") === wanted).map(quoted));
  const words = [...keywords, ...plain];
  const parts = [...(words.length ? ["--leave-out " + words.join(" ")] : []), ...dashed.map((name) => "--leave-out=" + name)];
  return { text: parts.join(" "), marked: marked.length, kept: kept.length };
}

function mark() {
  const { text, marked, kept } = option();
  const images = (count) => count === 1 ? "1 image" : count + " images";
  const parts = [marked && images(marked) + " to be left out", kept && images(kept) + " to be kept"].filter(Boolean);
  at("marked").textContent = parts.length ? parts.join(", ") + ". Fit again with this option:" : "Nothing is marked: the model stays as it is.";
  at("option").value = parts.length ? text : "";
  at("option-row").hidden = !parts.length;
}

at("marked").hidden = false;
marks.forEach((box) => {
  box.disabled = false;
  box.addEventListener("change", mark);
});
at("option").addEventListener("focus", () => at("option").select());
at("copy").addEventListener("click", async () => {
  at("option").select();
  try {
    await navigator.clipboard.writeText(at("option").value);
    at("copy").textContent = "Copied";
    setTimeout(() => { at("copy").textContent = "Copy"; }, 1500);
  } catch {
    // It is selected, and may be copied by hand.
  }
});
mark();

// Shows everything at a rate.
function show(stop) {
  const { rate, threshold, above, painted, bad } = data.stops[stop];
  const found = (count, of) => `${percent(count, of)} (${count} of ${of})`;
  const own = data.stops[data.own].rate;
  const text = {
    "property": "false-reject-rate=" + rate,
    "property-note": stop === data.own ? "the model’s own: need not be set" : "the model’s own is " + own,
    "rate-now": Number((100 * rate).toPrecision(3)) + " %",
    "threshold-now": threshold,
    "painted-found": found(painted, data.painted),
    "bad-found": found(bad, data.bad),
    "above-now": `${above} of ${data.good}`,
  };
  for (const [id, value] of Object.entries(text)) {
    if (at(id)) at(id).textContent = value;
  }
  at("slider").value = stop;
  at("slider").setAttribute("aria-valuetext", `${text["rate-now"]}: threshold ${threshold}, ${text["painted-found"]} painted defects found`);
  moveMark("painted", rate / data.limit, painted / data.painted);
  moveMark("bad", rate / data.limit, bad / data.bad);
  document.querySelectorAll(".card").forEach((card) => {
    const verdict = card.querySelector(".verdict"), score = Number(card.dataset.score);
    if (card.hasAttribute("data-left-out")) return;
    verdict.textContent = score > threshold ? "above the threshold" : score === threshold ? "sets the threshold" : "below the threshold";
    verdict.classList.toggle("below", score < threshold);
  });
}

at("slider").disabled = false;
at("slider").addEventListener("input", (event) => show(Number(event.target.value)));
document.querySelector(".choices").hidden = false;
document.querySelectorAll("[data-stop]").forEach((button) => {
  button.addEventListener("click", () => show(Number(button.dataset.stop)));
});
show(data.own);
