const { log, from, to } = data.axis;
const partOf = (score) => {
  const part = log ? Math.log(score / from) / Math.log(to / from) : (score - from) / (to - from);
  return Math.min(Math.max(part, 0), 1);
};
const scoreAt = (part) => log ? from * Math.pow(to / from, part) : from + part * (to - from);

// Shows everything at a threshold: scores above it are flagged.
function show(threshold) {
  const flagged = data.kinds.map((kind) => kind.scores.filter((score) => score > threshold).length);
  const sum = (defective, counts) => data.kinds.reduce((total, kind, i) => total + (kind.defective === defective ? counts[i] : 0), 0);
  const sizes = data.kinds.map((kind) => kind.scores.length);
  const [defective, good] = [sum(true, sizes), sum(false, sizes)];
  const [found, alarms] = [sum(true, flagged), sum(false, flagged)];
  const text = {
    found, missed: defective - found, alarms, passed: good - alarms,
    "found-rate": percent(found, defective), "alarm-rate": percent(alarms, good),
    "precision": percent(found, found + alarms), "f1": found + defective + alarms ? (2 * found / (found + defective + alarms)).toFixed(4) : "–",
    "property": "threshold=" + threshold,
    "property-note": threshold === data.thresholds.own ? "the model’s own: need not be set" : "the model’s own is " + data.thresholds.own,
  };
  for (const [id, value] of Object.entries(text)) at(id).textContent = value;
  document.querySelectorAll(".kinds tr").forEach((row, i) => {
    row.querySelector(".bar span").style.width = 100 * flagged[i] / sizes[i] + "%";
    row.querySelector("b").textContent = flagged[i];
  });

  const part = partOf(threshold);
  at("threshold-line").style.left = 100 * part + "%";
  at("slider").value = 1000 * part;
  at("slider").setAttribute("aria-valuetext", `${threshold}: ${found} of ${defective} defective images found, ${alarms} of ${good} good ones flagged`);
  if (document.activeElement !== at("number")) at("number").value = threshold;

  if (data.hasRoc) {
    moveMark("roc", alarms / good, found / defective);
    at("roc-now").textContent = `At this threshold ${percent(alarms, good)} of the good and ${percent(found, defective)} of the defective images are flagged.`;
  }
  if (data.pro.length) {
    // Thresholds fall along the curve.
    const marked = data.pro.filter((point) => point[0] > threshold);
    const [, alarm, recall] = marked.length ? marked[marked.length - 1] : [0, 0, 0];
    const beyond = marked.length === data.pro.length && alarm >= data.proLimit;
    moveMark("pro", beyond ? 2 : alarm / data.proLimit, recall);
    at("pro-now").textContent = beyond
      ? `At this threshold more than ${100 * data.proLimit} % of the good pixels are marked: off this picture.`
      : `At this threshold about ${percent(recall, 1)} of a defect and ${(100 * alarm).toFixed(2)} % of the good pixels are marked.`;
  }
  document.querySelectorAll(".card").forEach((card) => {
    const isDefective = card.dataset.defective === "true", isFlagged = Number(card.dataset.score) > threshold;
    const verdict = card.querySelector(".verdict");
    verdict.textContent = isDefective ? (isFlagged ? "found" : "missed") : (isFlagged ? "false alarm" : "passed");
    verdict.classList.toggle("ok", isDefective === isFlagged);
  });
}

at("slider").disabled = false;
at("slider").addEventListener("input", (event) => show(Number(scoreAt(event.target.value / 1000).toPrecision(4))));
at("number").addEventListener("input", (event) => {
  if (event.target.value > 0) show(Number(event.target.value));
});
document.querySelector(".choices").hidden = false;
document.querySelectorAll("[data-choice]").forEach((button) => {
  const threshold = data.thresholds[button.dataset.choice];
  button.hidden = threshold === null;
  button.addEventListener("click", () => show(threshold));
});
show(data.thresholds.own);
