
// Formats numbers and times, with the same rounding as the package's tables.

const MISSING = "-";
const UNITS_OF_TIME = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** Format the values of one column. All dollar amounts get the same number of decimals. */
function columnNumbers(values, unit) {
  const isSmall = values.some((value) => value && Math.abs(value) < 0.1);
  return values.map((value) => rounded(value, unit, isSmall ? 4 : 2));
}

const number = (value, unit) => columnNumbers([value], unit)[0];

function rounded(value, unit, decimals) {
  if (value === null || value === undefined) return MISSING;
  if (unit === "dollars") return `${value < 0 ? "-" : ""}$${grouped(Math.abs(value), decimals)}`;
  if (unit === "seconds") return duration(value);
  return Math.abs(value) >= 100 ? grouped(value) : String(Number(value.toPrecision(3)));
}

/** Format a number with thousands separators. */
function grouped(value, decimals = 0) {
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/** Format a duration in seconds with its two largest units. */
const duration = (seconds) => (seconds < 10 ? `${Number(seconds.toPrecision(2))} s` : partsOf(Math.round(seconds), 2).join(" "));

/** Split a whole number of seconds into units, the largest first, at most *most* of them. */
function partsOf(seconds, most = UNITS_OF_TIME.length) {
  let left = seconds;
  const first = UNITS_OF_TIME.findIndex(([size]) => left >= size);
  const parts = UNITS_OF_TIME.slice(first, first + most).map(([size, name]) => {
    const count = Math.floor(left / size);
    left -= count * size;
    return count && `${count} ${name}`;
  });
  return parts.filter(Boolean);
}

/** Format a count with its noun, for example "1 session" or "2 sessions". */
const counted = (count, noun) => `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;

const DATE_AND_TIME = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" });
