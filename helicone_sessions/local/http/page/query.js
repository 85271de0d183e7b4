
// The query: converts the fields of the page to request bodies.

const DAY = 86_400_000;

/** Read the current fields, with the time range as two instants. */
function questionNow() {
  const time = the("time").value;
  return {
    time,
    between: between(time),
    size: the("size").value,
    isInterquartile: the("interquartile").checked,
    name: the("name").value,
    isSessioned: the("sessioned").checked,
  };
}

/** Return the first millisecond of the time range and the first after it, or null for all time. */
function between(time) {
  if (time === "") return null;
  const now = Date.now();
  if (time !== "between") return [now - Number(time) * DAY, now];
  const [from, to] = ["from", "to"].map((id) => the(id).value);
  if (!from) throw new Refused("The time range needs a start. Fill in the From field.");
  const [start, end] = [new Date(from).getTime(), to ? new Date(to).getTime() : now];
  if (start >= end) throw new Refused("The time range ends before it starts. Use an earlier start or a later end.");
  return [start, end];
}

/** Convert the time range to the format of the API, which excludes both ends. */
const timeFilter = ([start, end]) => ({ startTimeUnixMs: start - 1, endTimeUnixMs: end });

/** Build the query for the API with the parsed filter. */
function bodyOf({ between, size, isInterquartile, name, isSessioned }, read, withUnsessioned = !isSessioned) {
  const body = { nameContains: name, timezoneDifference: 0, pSize: size };
  if (isInterquartile) body.useInterquartile = true;
  if (between) body.timeFilter = timeFilter(between);
  const { wire } = FACTS.sessioned;
  const isAll = read.isEmpty || read.wire === "all";
  if (!isAll) body.filter = withUnsessioned ? read.wire : { left: read.wire, operator: "and", right: wire };
  else if (!withUnsessioned) body.filter = wire;
  return body;
}

/** Build the body for the page's endpoints, which count the requests without a session id separately. */
const overviewBody = (asked, read, more) => ({
  query: bodyOf(asked, read, true),
  unsessioned: !asked.isSessioned,
  ...more,
});

/** Return the filter as Python code, or null if all requests match. */
function pythonFilter({ isSessioned }, read) {
  const { python } = FACTS.sessioned;
  if (read.isEmpty) return isSessioned ? python : null;
  return isSessioned ? `(${read.python}) & ${python}` : read.python;
}

/** Explain where the histograms end, and where the sessions beyond are counted. */
function cutOf({ size, isInterquartile }) {
  if (isInterquartile) return `The scale ends near ${size} and the mirrored quantile. The bars at both ends contain the sessions beyond it.`;
  return `The scale ends near ${size}. The last bar contains the sessions beyond it.`;
}

/** Return the time zone of this browser with its current offset. */
function zone() {
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  const minutes = -new Date().getTimezoneOffset();
  const clock = [Math.abs(minutes) / 60, Math.abs(minutes) % 60].map((part) => String(Math.trunc(part)).padStart(2, "0"));
  return `${timeZone}, UTC${minutes < 0 ? "−" : "+"}${clock.join(":")}`;
}
