
// The answer: averages, three histograms, and tables of the same numbers.

const TITLES = {
  session_count: "Requests per session",
  session_duration: "Seconds per session, first request to last",
  session_cost: "Dollars per session",
};

/** Show an answer to what was *asked*, which took *seconds*. */
function showAnswer(data, asked, seconds) {
  const panels = Object.entries(FACTS.units).map(([name, unit]) => ({
    name,
    unit,
    title: TITLES[name],
    mean: data.average[name][0]?.average ?? null,
    bars: barsOf(data[name]),
  }));
  const count = panels.map(({ bars, unit }) => `${grouped(total(bars), 0)} by ${unit}`);
  const isEmpty = panels.every(({ bars, mean }) => !bars.length && mean === null);
  the("summary").textContent =
    (isEmpty ? "No session matches. " : `Sessions drawn: ${count.join(", ")}. `) +
    `Answered in ${seconds.toFixed(2)} s at ${new Date().toLocaleTimeString("en-GB")}.`;
  the("pictures").replaceChildren(...panels.map(pictureOf));
  the("cut").textContent = `${cutOf(asked)} The area of a bar is its number of sessions. Averages are of all sessions, drawn or not.`;
  the("tables").replaceChildren(...panels.map(tableOf));
  the("stale").hidden = true;
  the("answer").classList.remove("old");
  the("answer").hidden = false;
}

/** Say that the answer is one to an earlier question. */
function markOld() {
  the("stale").hidden = false;
  the("answer").classList.add("old");
}

const total = (bars) => bars.reduce((sum, { value }) => sum + value, 0);

function pictureOf({ name, title, unit, mean, bars }) {
  return made(
    "figure",
    { "data-metric": name },
    made("figcaption", {}, title),
    made("div", {}, made("data", { class: "mean", value: mean ?? "" }, number(mean, unit)), ` ${unit} on average`),
    bars.length ? histogram(title, bars, mean, unit) : made("p", { class: "note" }, "no session"),
  );
}

function tableOf({ name, title, unit, bars }) {
  const heads = ["from", "to", "sessions", `per ${unit.replace(/s$/, "")}`];
  return made(
    "table",
    { "data-metric": name },
    made("caption", {}, `${title}: bars in ${unit}`),
    made("thead", {}, made("tr", {}, ...heads.map((head) => made("th", { scope: "col" }, head)))),
    made("tbody", {}, ...bars.map((bar) => rowOf(bar, unit))),
  );
}

function rowOf({ start, end, value, density }, unit) {
  const cells = [
    [start, number(start, unit)],
    [end, number(end, unit)],
    [value, grouped(value, 1)],
    [density, number(density, "sessions")],
  ];
  return made("tr", {}, ...cells.map(([exact, shown]) => made("td", {}, made("data", { value: exact }, shown))));
}
