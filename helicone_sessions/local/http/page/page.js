
// The page: connects all parts.

let running = null;
/** The last query with a response: the query, its parsed filter, its metrics and its totals. */
let shown = null;
/** Whether the fields have changed since the last query. */
let isChanged = false;
let limit = PAGE;

const box = new FilterBox(queryChanged);

/** Show an error message; "" hides it. */
function tell(problem = "") {
  the("problem").textContent = problem;
  the("trouble").hidden = !problem;
}

/** Show the field for the key, with the reason for asking. */
function askForKey(why = "") {
  the("access").hidden = false;
  the("change-key").hidden = true;
  the("access-problem").textContent = why;
  the("access-problem").hidden = !why;
  the("answer").hidden = shown === null;
  document.body.classList.toggle("closed", shown === null);
}

function keyIsAccepted() {
  document.body.classList.remove("closed");
  the("access").hidden = true;
  the("change-key").hidden = false;
}

/** Handle changed fields: mark the results on the page as results of an earlier query. */
function queryChanged() {
  isChanged = true;
  if (shown) markOld(true);
  showQuery();
}

function markOld(isOld) {
  the("stale").hidden = !isOld;
  the("answer").classList.toggle("old", isOld);
}

/** Show the code for the current query. */
function showQuery() {
  const { read } = box;
  if (read === null) return showNoCode(box.unread);
  if ("error" in read) return showNoCode("Fix the filter to see the code.");
  let asked;
  try {
    asked = questionNow();
  } catch (error) {
    return showNoCode(error.message);
  }
  const body = bodyOf(asked, read);
  showCode({
    python: pythonText(asked, read),
    command: commandText(asked, box.text),
    curl: curlText(body),
    wire: JSON.stringify(body.filter ?? "all", null, 2),
  });
}

/**
 * Run the query and show the results, or the reason why there are none.
 *
 * isByHand: the user started the query, so the results get the focus if they are not visible.
 */
async function run({ isByHand = false } = {}) {
  running?.abort();
  const mine = (running = new AbortController());
  the("run").textContent = "Stop";
  the("progress").textContent = the("took").textContent = "Running …";
  the("answer").setAttribute("aria-busy", "true");
  tell();
  try {
    const read = await box.readNow();
    if (read === null) return;
    if ("error" in read) {
      if (isByHand) box.focus();
      return;
    }
    const asked = questionNow();
    isChanged = false;
    const began = performance.now();
    const { data: metrics } = await post(FACTS.queryPath, bodyOf(asked, read), mine.signal);
    keyIsAccepted();
    const edges = edgesOfAll(metrics, the("scale").value);
    const { data: totals } = await post(FACTS.barsPath, overviewBody(asked, read, { edges }), mine.signal);
    shown = { asked, read, metrics, totals, edges };
    the("answer").hidden = false;
    the("answer").classList.remove("waiting");
    showAnswer((performance.now() - began) / 1000);
    markOld(isChanged);
    if (isByHand) showWhereItIs();
    limit = PAGE;
    await Promise.all([showGrid(mine.signal), listSessions(mine.signal)]);
  } catch (error) {
    if (!(error instanceof Refused)) {
      if (error.name !== "AbortError") throw error;
    } else if (error.isKey) {
      askForKey(error.message);
      the("key").focus();
    } else {
      keyIsAccepted();
      tell(error.message);
      the("trouble").scrollIntoView({ block: "nearest" });
    }
  } finally {
    if (running === mine) {
      running = null;
      the("run").textContent = "Run";
      the("progress").textContent = "";
      if (the("took").textContent === "Running …") the("took").textContent = "";
      the("answer").setAttribute("aria-busy", "false");
    }
  }
}

/** Show the overview of the last results. */
function showAnswer(seconds) {
  const { asked, metrics, totals, edges, read } = shown;
  the("took").textContent = `Answered in ${seconds.toFixed(2)} s.`;
  the("pseudo").hidden = !totals.unsessioned || asked.isSessioned;
  the("pseudo-text").textContent = `${counted(totals.unsessioned, "request")} without a session id count as one session, in all means and bars.`;
  the("unsessioned").textContent = totals.unsessioned ? `(${counted(totals.unsessioned, "request")})` : "(none)";
  const isEmpty = !totals.sessions;
  the("empty").hidden = !isEmpty;
  the("found").hidden = isEmpty;
  if (isEmpty) return showEmpty(asked, read);
  showHeadline(metrics, totals, asked);
  showHistograms(metrics, totals, edges, asked, openBar);
}

/** Explain why there may be no sessions, and suggest the next step. */
function showEmpty({ between, isSessioned, name }, read) {
  const isAll = read.isEmpty && !between && !name && !isSessioned;
  const cost = costAbove(read.wire);
  the("empty-title").textContent = isAll ? "This server has no requests yet" : "No session matches";
  the("empty-advice").textContent = isAll
    ? "Load some: start it with helicone-sessions serve --data FILE, or send rows to POST /v1/rows."
    : cost !== null
      ? `cost is the cost of one request. For the cost of whole sessions use session_total_cost > ${cost}.`
      : "Try a longer time range or fewer conditions.";
}

/** Find the constant of a condition such as "cost > 3" in a filter; null if there is none. */
function costAbove(wire) {
  if (!wire || typeof wire !== "object") return null;
  if (wire.left) return costAbove(wire.left) ?? costAbove(wire.right);
  const { gt, gte } = wire.request_response_rmt?.cost ?? {};
  return gt ?? gte ?? null;
}

/** Scroll to the results if they are not visible. On a phone, the fields fill the screen. */
function showWhereItIs() {
  const { top } = the("answer").getBoundingClientRect();
  if (top >= 0 && top < innerHeight / 2) return;
  the("answer").scrollIntoView({ block: "start" });
  the("answer-title").focus({ preventScroll: true });
}

const parts = new Map();

/**
 * Load one part of the results. If an earlier load of the same part is still running, stop it.
 *
 * If an error occurs, its message replaces this part. The other parts remain.
 */
async function part(ids, signal, work) {
  const problem = the(`${ids[0]}-problem`);
  problem.hidden = true;
  parts.get(problem)?.abort();
  const mine = new AbortController();
  parts.set(problem, mine);
  try {
    await work(signal ? AbortSignal.any([signal, mine.signal]) : mine.signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refused)) throw error;
    problem.textContent = error.message;
    problem.hidden = false;
    for (const id of ids) the(id).replaceChildren();
  }
}

/** Request and show the segments and the time line. */
async function showGrid(ofRun) {
  const { asked, read, totals } = shown;
  showFields();
  if (!access.offersGrid || !totals.sessions) return;
  await part(["segments", "timeline"], ofRun, async (signal) => {
    if (the("by").value === "properties" && !the("property").value) {
      throw new Refused("Enter the key of the property.");
    }
    const grid = gridOf(asked, read, totals);
    if (!grid.column && !grid.periods.length) {
      for (const id of ["segments", "timeline"]) the(id).replaceChildren();
      the("overlap").hidden = true;
      return;
    }
    const { data } = await post(FACTS.gridPath, grid.body, signal);
    shown.redrawGrid = () => showBreakdown(data, grid, asked.size, { narrow, narrowTime });
    shown.redrawGrid();
  });
}

/** Request and show the sessions. */
async function listSessions(ofRun) {
  const { asked, read, totals } = shown;
  if (!totals.sessions) return;
  await part(["sessions"], ofRun, async (signal) => {
    const { data } = await post(FACTS.inBarPath, sessionsBody(asked, read, limit), signal);
    showSessions(data, limit, sessionsIn(barNow()), { sort, narrow });
    for (const bar of document.querySelectorAll("[data-bar]")) {
      bar.setAttribute("aria-pressed", String(bar.dataset.bar === kept.bar));
    }
  });
}

/** Return the number of sessions in a bar, or of all sessions if no bar is given. */
function sessionsIn(bar) {
  const { totals, edges } = shown;
  if (!bar) return totals.sessions;
  const bins = edges[bar.name] ? binsOf(edges[bar.name], totals.counts[bar.name]) : [];
  return bins.find(({ start, end }) => start === bar.start && end === bar.end)?.sessions ?? 0;
}

/** List the sessions in a bar, and scroll to the list. */
async function openBar(name, row) {
  const text = barText(name, row);
  kept.bar = kept.bar === text ? "" : text;
  limit = PAGE;
  remember();
  await listSessions();
  if (!kept.bar) return;
  the("sessions-title").focus({ preventScroll: true });
  the("sessions-title").scrollIntoView({ block: "start" });
}

async function sort(by) {
  kept.sort = by;
  remember();
  await listSessions();
  document.querySelector("#sessions th:not([aria-sort=none]) button")?.focus();
}

/** Add a condition to the filter, and run the query. */
function narrow(condition) {
  const text = box.text.trim();
  box.text = text ? `(${text}) and ${condition}` : condition;
  runByHand();
}

/** Limit the time range to one period. */
function narrowTime({ from, to }) {
  the("time").value = "between";
  the("from").value = localText(from);
  the("to").value = localText(to);
  runByHand();
}

function runByHand() {
  kept.bar = "";
  showFields();
  queryChanged();
  remember();
  run({ isByHand: true });
}

/** Show only the fields that the selected options need. */
function showFields() {
  for (const field of document.querySelectorAll(".between")) field.hidden = the("time").value !== "between";
  the("property-field").hidden = the("by").value !== "properties";
  the("top-field").hidden = the("by").value === "";
  the("breakdown").hidden = access.offersGrid === false;
}

/** Load the state from the URL and run its query. A key in the URL replaces the current key. */
function start() {
  const key = takeState();
  if (key !== undefined) access.key = key.trim();
  showFields();
  box.readSoon();
  queryChanged();
  if (access.key) {
    document.body.classList.remove("closed");
    the("access").hidden = true;
    the("answer").hidden = false;
    return run();
  }
  askForKey();
  the("key").focus();
}

the("query").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else runByHand();
});
the("access").addEventListener("submit", (event) => {
  event.preventDefault();
  access.key = the("key").value.trim();
  the("key").value = "";
  // With another key, the server may accept a filter that it has rejected before.
  box.readSoon();
  run();
});
the("change-key").addEventListener("click", () => {
  askForKey();
  the("key").focus();
});
the("leave-out").addEventListener("click", () => {
  the("sessioned").checked = true;
  runByHand();
});
the("again").addEventListener("click", () => run());
the("query").addEventListener("input", ({ target }) => {
  if (target === the("filter")) return;
  showFields();
  tell();
  queryChanged();
});
the("breakdown").addEventListener("change", () => {
  showFields();
  remember();
  showGrid();
});
the("scale").addEventListener("change", () => {
  kept.bar = "";
  remember();
  run();
});
the("more").addEventListener("click", () => {
  limit = Math.min(limit * 5, MOST_LISTED);
  listSessions();
});
the("leave-bar").addEventListener("click", async () => {
  kept.bar = "";
  remember();
  await listSessions();
  the("sessions-title").focus({ preventScroll: true });
});
addEventListener("popstate", start);
// The width of the charts depends on the width of the window.
let width = innerWidth;
addEventListener("resize", () => {
  if (width === innerWidth || !shown?.totals.sessions) return;
  width = innerWidth;
  showHistograms(shown.metrics, shown.totals, shown.edges, shown.asked, openBar);
  shown.redrawGrid?.();
});

for (const size of FACTS.sizes) the("size").append(made("option", { value: size }, size));
const usual = ["model", "session_name", "user_id", "provider", "status"];
for (const name of new Set([...usual, ...FACTS.groupable.toSorted()])) {
  the("by").append(made("option", { value: name }, name));
}
the("by").append(made("option", { value: "properties" }, "a property …"));
the("zone").textContent = zone();
selectTab("python");
start();
