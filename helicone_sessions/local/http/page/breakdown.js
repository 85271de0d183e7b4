
// The breakdown: a table of segments with all figures, and a timeline. One grid request provides the data.

const MOST_PERIODS = 400;
const HOUR = 3_600_000;
const QUANTITIES = {
  dollars: { title: "Total cost", unit: "dollars", of: (cell) => cell.dollars },
  sessions: { title: "Sessions", unit: "sessions", of: (cell) => cell.sessions },
  requests: { title: "Requests", unit: "requests", of: (cell) => cell.requests },
  mean: { title: "Mean cost per session", unit: "dollars", of: (cell) => cell.means[2] },
};

/** Split the time range into periods of the browser's time zone. The first and the last period may be partial. */
function periodsOf([start, end], every) {
  const wanted = every === "auto" ? usualPeriod(end - start) : every;
  const found = [];
  for (let at = startOf(wanted, new Date(start)); at.getTime() < end; ) {
    const next = nextOf(wanted, at);
    const [from, to] = [Math.max(at.getTime(), start), Math.min(next.getTime(), end)];
    found.push({ from, to, isPartial: from > at.getTime() || to < next.getTime(), text: nameOf(wanted, at) });
    if (found.length > MOST_PERIODS) {
      throw new Refused(`There would be more than ${MOST_PERIODS} periods. Choose longer periods or a shorter time range.`);
    }
    at = next;
  }
  return { every: wanted, periods: found };
}

function usualPeriod(length) {
  if (length <= 2 * DAY) return "hour";
  if (length <= 62 * DAY) return "day";
  return length <= 400 * DAY ? "week" : "month";
}

function startOf(every, time) {
  const at = new Date(time);
  if (every === "hour") at.setMinutes(0, 0, 0);
  else at.setHours(0, 0, 0, 0);
  // Weeks start on Monday.
  if (every === "week") at.setDate(at.getDate() - ((at.getDay() + 6) % 7));
  if (every === "month") at.setDate(1);
  return at;
}

function nextOf(every, at) {
  // An hour that is repeated when the clocks change becomes two periods.
  if (every === "hour") return new Date(at.getTime() + HOUR);
  const next = new Date(at);
  if (every === "month") next.setMonth(next.getMonth() + 1);
  else next.setDate(next.getDate() + (every === "week" ? 7 : 1));
  return next;
}

const NAMES_OF_PERIODS = {
  hour: new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }),
  day: new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" }),
  week: new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" }),
  month: new Intl.DateTimeFormat("en-GB", { month: "short", year: "numeric" }),
};

const nameOf = (every, at) => NAMES_OF_PERIODS[every].format(at);

/** Build the body of the request, with the data that is needed to show the response. */
function gridOf(asked, read, totals) {
  const column = the("by").value;
  const property = the("property").value;
  const times = asked.between ?? (totals.sessions ? [totals.first, totals.latest + 1] : null);
  const { every, periods } = times && the("every").value ? periodsOf(times, the("every").value) : { periods: [] };
  // Without a time range, the first and the last period are complete.
  if (!asked.between) for (const period of periods) period.isPartial = false;
  const segments = column === "properties" ? { column, key: property } : COLUMNS_OF_NAMES[column] ?? { column };
  return {
    every,
    periods,
    column: column && (column === "properties" ? `properties[${JSON.stringify(property)}]` : column),
    body: {
      query: bodyOf(asked, read),
      segments: column ? { ...segments, top: Number(the("top").value) } : [],
      periods: periods.map(({ from, to }) => timeFilter([from, to])),
      quantiles: [asked.size],
    },
  };
}

// Segments can be grouped by session name and by tag. These columns are properties.
const COLUMNS_OF_NAMES = Object.fromEntries(
  FACTS.aliases.map(({ name, key }) => [name, { column: "properties", key }]),
);

/** Look up the cells of a response by segment and period; null selects a total. */
function cellsOf({ cells }, level) {
  const found = new Map();
  cells.segment.forEach((segment, place) => {
    const [means, ends] = [cells.averages, cells.quantiles[level]].map((all) => all.map((column) => column[place]));
    const { sessions, requests, dollars } = Object.fromEntries(
      ["sessions", "requests", "dollars"].map((name) => [name, cells[name][place]]),
    );
    found.set(`${segment} ${cells.period[place]}`, { sessions, requests, dollars, means, ends });
  });
  return (segment, period) => found.get(`${segment} ${period}`);
}

/** Show the timeline and the segments. The functions in *actions* take a period and a condition as text. */
function showBreakdown(answer, grid, level, actions) {
  const quantity = QUANTITIES[the("quantity").value];
  const cell = cellsOf(answer, level);
  const over = (segment) => grid.periods.map((_, place) => amountOf(quantity, cell(segment, place)));
  const isEmpty = !grid.periods.length;
  the("timeline").replaceChildren(...(isEmpty ? [] : timeline(the("breakdown-title").parentElement, grid, over(null), quantity, actions.narrowTime)));
  the("segments").replaceChildren(...(grid.column ? [segmentTable(answer.values, grid, cell, over, level, quantity, actions)] : []));
  the("overlap").hidden = !grid.column;
}

const amountOf = (quantity, cell) => (cell ? quantity.of(cell) ?? 0 : 0);

function timeline(place, { every, periods }, values, { title, unit }, narrow) {
  const texts = unit === "dollars" ? columnNumbers(values, unit) : values.map((value) => grouped(value));
  const columns = periods.map((period, place) => ({
    value: values[place],
    name: `${period.text}: ${texts[place]}${period.isPartial ? " (partial period)" : ""}`,
    act: () => narrow(period),
    isPartial: period.isPartial,
  }));
  const ticks = periods.map(({ text }, place) => ({ at: place + 0.5, text }));
  const format = unit === "dollars" ? (value) => edgeText(unit, value) : grouped;
  const label = `${title} per ${every}. Select a column to see only this ${every}.`;
  const found = [made("h3", {}, `${title} per ${every}`), chart(place, label, columns, ticks, { format })];
  if (columns.some(({ isPartial }) => isPartial)) {
    found.push(made("p", { class: "note" }, `Pale columns: the time range covers only a part of the ${every}.`));
  }
  return found;
}

function segmentTable(values, grid, cell, over, level, quantity, { narrow }) {
  const rows = values.map((value, place) => ({ value, place })).filter(({ place }) => cell(place, null));
  const cells = [...rows.map(({ place }) => cell(place, null)), cell(null, null)].filter(Boolean);
  const columns = [
    ["Total cost", withText(cells.map(({ dollars }) => dollars), "dollars")],
    ["Sessions", cells.map(({ sessions }) => [sessions, grouped(sessions)])],
    ["Requests", cells.map(({ requests }) => [requests, grouped(requests)])],
    ["Mean cost", withText(cells.map(({ means }) => means[2]), "dollars")],
    [`Cost ${level}`, withText(cells.map(({ ends }) => ends[2]), "dollars")],
    ["Mean requests", withText(cells.map(({ means }) => means[0]), "requests")],
    ["Mean duration", withText(cells.map(({ means }) => means[1]), "seconds")],
  ];
  const hasTime = grid.periods.length > 1;
  const figures = (at) => columns.map(([, column]) => made("td", {}, data(...column[at])));
  const spark = (segment, name) =>
    hasTime ? [made("td", {}, sparkline(over(segment), `${quantity.title} of ${name} per ${grid.every}`))] : [];
  const head = [grid.column, ...columns.map(([title]) => title), ...(hasTime ? [`${quantity.title} over time`] : [])];
  return made(
    "table",
    {},
    made("thead", {}, made("tr", {}, ...head.map((title) => made("th", { scope: "col" }, title)))),
    made(
      "tbody",
      {},
      ...rows.map(({ value, place }, at) => {
        const name = segmentName(value);
        const condition = conditionOf(grid.column, value);
        const head = condition
          ? button(name, () => narrow(condition), { class: "plain", title: `Add ${condition} to the filter` })
          : name;
        return made("tr", {}, made("th", { scope: "row" }, head), ...figures(at), ...spark(place, name));
      }),
    ),
    made("tfoot", {}, made("tr", {}, made("th", { scope: "row" }, "All"), ...figures(cells.length - 1), ...spark(null, "all"))),
  );
}

const withText = (values, unit) => {
  const texts = columnNumbers(values, unit);
  return values.map((value, place) => [value, texts[place]]);
};

const segmentName = (value) => (value === "" ? "(empty)" : value === null ? "(missing)" : String(value));

/** Return the condition of a segment as filter text, or "" if it cannot be expressed as text. */
function conditionOf(column, value) {
  if (value === null) return `${column} is null`;
  if (value === "") return `${column} is empty`;
  if (typeof value === "boolean") return `${column} is ${value}`;
  // In a comparison, these words have a special meaning.
  if (value === "null" || value === "__empty__") return "";
  return `${column} == ${JSON.stringify(value)}`;
}
