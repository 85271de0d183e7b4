
// The query: the fields of the page as the bodies of requests.

const DAY = 86_400_000;

/** The fields as they are now, with the time as two instants. */
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

/** The first millisecond of the time and the first one after it, or null for all time. */
function between(time) {
  if (time === "") return null;
  const now = Date.now();
  if (time !== "between") return [now - Number(time) * DAY, now];
  const [from, to] = ["from", "to"].map((id) => the(id).value);
  if (!from) throw new Refused("The time needs a start. Fill in the field From.");
  const [start, end] = [new Date(from).getTime(), to ? new Date(to).getTime() : now];
  if (start >= end) throw new Refused("The time ends before it starts. Use an earlier start or a later end.");
  return [start, end];
}

/** The time in the form of the API, which excludes both ends. */
const timeFilter = ([start, end]) => ({ startTimeUnixMs: start - 1, endTimeUnixMs: end });

/** The query of the API, with the filter as it was read. */
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

/** The body of the page's own endpoints, which count the requests without a session id separately. */
const overviewBody = (asked, read, more) => ({
  query: bodyOf(asked, read, true),
  unsessioned: !asked.isSessioned,
  ...more,
});

/** The filter as Python, or null if all requests match. */
function pythonFilter({ isSessioned }, read) {
  const { python } = FACTS.sessioned;
  if (read.isEmpty) return isSessioned ? python : null;
  return isSessioned ? `(${read.python}) & ${python}` : read.python;
}

/** The sentence that says which sessions the histograms leave out. */
function cutOf({ size, isInterquartile }) {
  if (isInterquartile) return `The bars end near ${size} and its mirror. The bars at both ends hold the sessions beyond.`;
  return `The bars end near ${size}. The last bar holds the sessions beyond.`;
}

/** The time zone of this browser, with its present offset. */
function zone() {
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  const minutes = -new Date().getTimezoneOffset();
  const clock = [Math.abs(minutes) / 60, Math.abs(minutes) % 60].map((part) => String(Math.trunc(part)).padStart(2, "0"));
  return `${timeZone}, UTC${minutes < 0 ? "−" : "+"}${clock.join(":")}`;
}
