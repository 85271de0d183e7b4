
// The list of sessions: the most expensive sessions, or the sessions in a bar of a histogram.

const PAGE = 20;
const MOST_LISTED = 1000;
const SESSION_COLUMNS = [
  ["id", "Session"],
  ["name", "Name"],
  ["first", "First request"],
  ["seconds", "Duration"],
  ["requests", "Requests"],
  ["dollars", "Cost"],
];
// On narrow screens, these columns are shown below the id.
const WIDE_COLUMNS = new Set(["name", "first", "seconds", "requests"]);

/** Return the figure and the edges of the selected bar, or null if no bar is selected. */
function barNow() {
  const [name, ...ends] = kept.bar.split("..");
  const [start, end] = ends.map((text) => (text === "" ? null : Number(text)));
  const isWhole = name in FACTS.units && ends.length === 2 && ![start, end].some(Number.isNaN);
  return isWhole ? { name, start, end } : null;
}

const barText = (name, { start, end }) => `${name}..${start ?? ""}..${end ?? ""}`;

/** Build the request body for a list of up to *limit* sessions. */
function sessionsBody(asked, read, limit) {
  const bar = barNow();
  const ends = bar ? { figure: bar.name, start: bar.start, end: bar.end } : {};
  return overviewBody(asked, read, { ...ends, sort: kept.sort, limit });
}

/** Show sessions. *total* is the number of sessions in the bar, or of all sessions. *actions* sort and filter. */
function showSessions(sessions, limit, total, actions) {
  const bar = barNow();
  const unit = bar && FACTS.units[bar.name];
  const among = sessions.length < total ? `${grouped(sessions.length)} of ${counted(total, "session")}` : counted(total, "session");
  the("sessions-note").textContent = bar ? `${among}, ${FIGURES[bar.name].head.toLowerCase()} ${labelOf(unit, bar.start, bar.end)}` : among;
  the("leave-bar").hidden = !bar;
  const dollars = columnNumbers(sessions.map((one) => one.dollars), "dollars");
  the("sessions").replaceChildren(
    made(
      "table",
      {},
      made("thead", {}, made("tr", {}, ...SESSION_COLUMNS.map((column) => headOf(...column, actions.sort)))),
      made("tbody", {}, ...sessions.map((one, place) => sessionRow(one, dollars[place], actions.narrow))),
    ),
  );
  the("more").hidden = sessions.length < limit || limit >= MOST_LISTED;
}

function headOf(column, title, sort) {
  const isDown = kept.sort === `-${column}`;
  const isUp = kept.sort === column;
  const isText = column === "id" || column === "name";
  const next = isDown || (isText && !isUp) ? column : `-${column}`;
  return made(
    "th",
    { scope: "col", class: WIDE_COLUMNS.has(column) ? "wide" : "", "aria-sort": isDown ? "descending" : isUp ? "ascending" : "none" },
    button(`${title}${isDown ? " ↓" : isUp ? " ↑" : ""}`, () => sort(next), { class: "plain" }),
  );
}

function sessionRow({ id, name, first, seconds, dollars, requests }, cost, narrow) {
  const title = id
    ? button(id, () => narrow(`session_id == ${JSON.stringify(id)}`), { class: "plain", title: "Show only this session" })
    : made("span", {}, "(requests without a session id)");
  const time = () => made("time", { datetime: new Date(first).toISOString() }, DATE_AND_TIME.format(first));
  const details = `, ${counted(requests, "request")} in ${duration(seconds)}`;
  return made(
    "tr",
    {},
    made("th", { scope: "row" }, title, made("small", { class: "narrow" }, name, name && ", ", time(), details)),
    made("td", { class: "wide" }, name),
    made("td", { class: "wide" }, time()),
    made("td", { class: "wide" }, data(seconds, duration(seconds))),
    made("td", { class: "wide" }, data(requests, grouped(requests))),
    made("td", {}, data(dollars, cost)),
  );
}
