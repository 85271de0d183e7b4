
// The question: what the page's fields say, as the body that the endpoint takes.

const MINUTE = 60_000;
const DAY = 86_400_000;

/** What was asked, beside the filter: sizes and times as they were chosen, and the time as two instants. */
function question() {
  const time = the("time").value;
  return {
    time,
    between: between(time),
    size: the("size").value,
    isInterquartile: the("interquartile").checked,
    name: the("name").value,
    timezone: new Date().getTimezoneOffset(),
  };
}

/** The two instants in milliseconds, or null for all time. */
function between(time) {
  if (time === "") return null;
  const now = Date.now();
  if (time !== "between") return [now - Number(time) * DAY, now];
  const [from, to] = ["from", "to"].map((id) => the(id).value);
  if (!from) throw new Refused("Say after which time the requests were made.");
  const [start, end] = [new Date(from).getTime(), to ? new Date(to).getTime() : now];
  if (start >= end) throw new Refused("The requests are to be made before a time that does not lie after the first one.");
  return [start, end];
}

/** The documented body, with what the filter box said. */
function bodyOf({ between, size, isInterquartile, name, timezone }, read) {
  const body = { nameContains: name, timezoneDifference: timezone };
  if (size) body.pSize = size;
  if (isInterquartile) body.useInterquartile = true;
  if (between) body.timeFilter = { startTimeUnixMs: between[0], endTimeUnixMs: between[1] };
  if (!read.isEmpty) body.filter = read.wire;
  return body;
}

/** Where the histograms of a question end, in a sentence. */
function cutOf({ size, isInterquartile }) {
  const level = size || "p75";
  if (isInterquartile) return `Cut at both ends, at ${level} and its mirror: sessions outside are not drawn.`;
  return `Cut at ${level}: sessions above that quantile are not drawn.`;
}

/** The zone of this browser, with its present offset. */
function zone() {
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  const minutes = -new Date().getTimezoneOffset();
  const clock = [Math.abs(minutes) / 60, Math.abs(minutes) % 60].map((part) => String(Math.trunc(part)).padStart(2, "0"));
  return `${timeZone}, UTC${minutes < 0 ? "−" : "+"}${clock.join(":")}`;
}

/** Whether the fields that a choice needs are shown. */
function showFieldsOfTime() {
  for (const field of document.querySelectorAll(".between")) field.hidden = the("time").value !== "between";
}
