
// The overview: headline figures, three histograms, and tables with the same numbers.

// Costs come first, because most users look for them first.
const FIGURES = {
  session_cost: { title: "Cost per session", head: "Cost" },
  session_duration: { title: "Duration per session", head: "Duration" },
  session_count: { title: "Requests per session", head: "Requests" },
};

/** Compute the edges of all three histograms from the bars that the API returns. */
function edgesOfAll(metrics, scale) {
  const found = {};
  for (const [name, unit] of Object.entries(FACTS.units)) {
    const rows = metrics[name];
    if (!rows.length) continue;
    const wanted = scale === "auto" ? scaleOf(rows) : scale;
    found[name] = edgesOf(unit, Number(rows[0].range_start), Number(rows.at(-1).range_end), wanted);
  }
  return found;
}

/** Show the headline: the number of sessions, the total cost, and the mean and the cut of each figure. */
function showHeadline(metrics, totals, { size }) {
  const mean = (name) => metrics.average[name][0]?.average ?? null;
  const cut = (name) => (metrics[name].length ? Number(metrics[name].at(-1).range_end) : null);
  const span = totals.sessions ? DATE.formatRange(new Date(totals.first), new Date(totals.latest)) : "no requests";
  const tiles = [
    tile("Sessions", totals.sessions, grouped(totals.sessions), counted(totals.requests, "request")),
    tile("Total cost", totals.dollars, number(totals.dollars, "dollars"), span),
  ];
  for (const [name, { head }] of Object.entries(FIGURES)) {
    const [average, end] = columnNumbers([mean(name), cut(name)], FACTS.units[name]);
    tiles.push(tile(`Mean ${head.toLowerCase()}`, mean(name), average, `${size} ${end}`, name));
  }
  the("headline").replaceChildren(...tiles);
}

function tile(title, value, shown, note, name = title) {
  return made("div", { "data-figure": name }, made("dt", {}, title), made("dd", {}, data(value, shown)), made("dd", { class: "note" }, note));
}

/** Show the histograms. A click on a bar calls *open* with the figure and the edges of the bar. */
function showHistograms(metrics, totals, edges, asked, open) {
  const panels = Object.entries(FIGURES).map(([name, { title, head }]) => {
    const rows = edges[name] ? binsOf(edges[name], totals.counts[name]) : [];
    return { name, unit: FACTS.units[name], title, head, rows, mean: metrics.average[name][0]?.average ?? null };
  });
  const figures = panels.map(({ name, title }) => made("figure", { "data-metric": name }, made("figcaption", {}, title)));
  the("pictures").replaceChildren(...figures);
  figures.forEach((figure, place) => figure.append(pictureOf(panels[place], figure, open)));
  the("tables").replaceChildren(...panels.map(tableOf));
  the("cut").textContent = `${cutOf(asked)} Means include all sessions.`;
}

/** Return the bins with their session counts. Bins beyond the edges are included only if they have sessions. */
function binsOf(edges, counts) {
  const ends = [null, ...edges, null];
  const bins = counts.map((sessions, place) => ({ start: ends[place], end: ends[place + 1], sessions }));
  return bins.filter(({ start, end, sessions }) => sessions || (start !== null && end !== null));
}

function pictureOf({ name, unit, head, rows, mean }, figure, open) {
  if (!rows.length) return made("p", { class: "note" }, "No session.");
  const columns = rows.map((row) => ({
    value: row.sessions,
    name: `${labelOf(unit, row.start, row.end)}: ${counted(row.sessions, "session")}`,
    act: () => open(name, row),
    isApart: row.start === null || row.end === null,
    bar: barText(name, row),
  }));
  const label = `Sessions by ${head.toLowerCase()}. Select a bar to list its sessions.`;
  return chart(figure, label, columns, ticksOfBins(rows, unit), { mark: markOfMean(mean, rows, unit) });
}

/** Label the edges between bars. For requests, label each bar at its middle. */
function ticksOfBins(rows, unit) {
  if (unit === "requests") return rows.map((row, place) => ({ at: place + 0.5, text: shortRange(row) }));
  const inside = rows.filter(({ start, end }) => start !== null && end !== null);
  const first = rows.indexOf(inside[0]);
  const edges = [...inside.map(({ start }) => start), inside.at(-1).end];
  return edges.map((edge, place) => ({ at: first + place, text: edgeText(unit, edge) }));
}

function shortRange({ start, end }) {
  if (start === null) return `<${grouped(end)}`;
  if (end === null) return `${grouped(start)}+`;
  return end - start === 1 ? grouped(start) : `${grouped(start)}–${grouped(end - 1)}`;
}

/** Return the position of the mean, or null if it is outside the bins. */
function markOfMean(mean, rows, unit) {
  if (mean === null) return null;
  // The middle of a bar of requests represents its whole number.
  const value = unit === "requests" ? mean + 0.5 : mean;
  const place = rows.findIndex(({ start, end }) => start !== null && end !== null && start <= value && value < end);
  if (place === -1) return null;
  const { start, end } = rows[place];
  return { at: place + (value - start) / (end - start), text: `mean ${number(mean, unit)}` };
}

function tableOf({ name, title, unit, head, rows }) {
  return made(
    "table",
    { "data-metric": name },
    made("caption", {}, title),
    made("thead", {}, made("tr", {}, made("th", { scope: "col" }, head), made("th", { scope: "col" }, "Sessions"))),
    made("tbody", {}, ...rows.map((row) => made("tr", {}, made("td", {}, labelOf(unit, row.start, row.end)), made("td", {}, data(row.sessions, grouped(row.sessions)))))),
  );
}
