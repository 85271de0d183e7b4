
// Bins of histograms with round edges, on an equal or a logarithmic scale.

const MOST_BINS = 12;
const STEPS_OF_TIME = [
  1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800, 14_400, 21_600, 43_200, 86_400,
  172_800, 432_000, 864_000, 2_592_000, 7_776_000, 31_536_000, 315_360_000,
];
const RISING_TIMES = [
  1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10_800, 43_200, 86_400, 259_200, 604_800, 2_592_000, 7_776_000, 31_536_000,
  315_360_000, 3_153_600_000,
];
// The maximum length of a logarithmic scale, in powers of ten.
const DECADES = 4;

/** Remove rounding errors, such as in 0.30000000000000004. */
const exact = (value) => Number(value.toPrecision(12));

/**
 * Compute the edges of bins that include all values from *low* to *high*.
 *
 * The edges of bins of requests are whole numbers. *scale* is "equal" or "log".
 */
function edgesOf(unit, low, high, scale) {
  const edges = scale === "log" ? thinned(rising(unit, low, high)) : equal(unit, low, high);
  return edges.length > 1 ? edges : [edges[0], edges[0] + 1];
}

function equal(unit, low, high) {
  const step = stepOf(unit, (high - low) / (MOST_BINS - 2), high);
  // Bins of requests start at the smallest session: 1 to 5, 6 to 10.
  const first = unit === "requests" ? low : exact(Math.floor(low / step) * step);
  const edges = [first];
  while (edges.at(-1) <= high) edges.push(exact(first + edges.length * step));
  return edges;
}

function stepOf(unit, least, high) {
  if (unit === "seconds") return STEPS_OF_TIME.find((step) => step >= least) ?? STEPS_OF_TIME.at(-1);
  if (unit === "requests" && least <= 1) return 1;
  // If all sessions have the same value, *least* is 0.
  const wanted = least || Math.abs(high) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(wanted));
  return exact([1, 2, 5, 10].find((times) => times * power >= wanted * (1 - 1e-9)) * power);
}

function rising(unit, low, high) {
  if (unit === "requests") return spanning(powersOfTwo(high), low, high);
  if (unit === "seconds") return [0, ...spanning(RISING_TIMES, Math.max(low, 1), Math.max(high, 1))].filter(isNew);
  if (high <= 0) return [0, 1];
  const least = Math.max(low, high / 10 ** DECADES);
  for (const factors of [[1, 2, 5], [1, 3], [1]]) {
    const edges = spanning(decades(factors, least, high), least, high);
    if (low < edges[0]) edges.unshift(0);
    if (edges.length <= MOST_BINS + 1 || factors.length === 1) return edges;
  }
}

/** Keep every second edge, every third edge and so on, so that there are not too many bins. */
function thinned(edges) {
  const stride = Math.ceil((edges.length - 1) / MOST_BINS);
  return edges.filter((_, place) => place % stride === 0 || place === edges.length - 1);
}

const isNew = (edge, place, edges) => place === 0 || edge > edges[place - 1];

/** Return the edges from the last edge at or below *low* to the first edge above *high*. */
function spanning(edges, low, high) {
  const first = Math.max(0, edges.findLastIndex((edge) => edge <= low));
  const last = edges.findIndex((edge) => edge > high);
  return edges.slice(first, last === -1 ? edges.length : last + 1);
}

function powersOfTwo(high) {
  const edges = [1];
  while (edges.at(-1) <= high) edges.push(edges.at(-1) * 2);
  return edges;
}

function* decadesBetween(factors, low, high) {
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)) + 1; power += 1) {
    for (const factor of factors) yield exact(factor * 10 ** power);
  }
}

const decades = (...range) => [...decadesBetween(...range)];

/**
 * Choose the scale for a histogram. It is logarithmic if half of the sessions would be in the first of about ten
 * equal bins.
 */
function scaleOf(rows) {
  const bars = rows.map(({ range_start, range_end, value }) => [Number(range_start), Number(range_end), value]);
  let half = bars.reduce((sum, [, , value]) => sum + value, 0) / 2;
  const [low, high] = [bars[0][0], bars.at(-1)[1]];
  for (const [start, end, value] of bars) {
    if (half <= value) return start + ((end - start) * half) / value < low + (high - low) / 8 ? "log" : "equal";
    half -= value;
  }
  return "equal";
}

/** Format a bin, for example "1", "2 to 3", "$0.10 to $0.20", "below 5" or "16 and more". */
function labelOf(unit, start, end) {
  if (unit === "requests") {
    if (start === null) return `below ${grouped(end)}`;
    if (end === null) return `${grouped(start)} and more`;
    return end - start === 1 ? grouped(start) : `${grouped(start)} to ${grouped(end - 1)}`;
  }
  if (start === null) return `below ${edgeText(unit, end)}`;
  if (end === null) return `${edgeText(unit, start)} and more`;
  return `${edgeText(unit, start)} to ${edgeText(unit, end)}`;
}

/** Format an edge without rounding. */
function edgeText(unit, edge) {
  if (unit === "seconds") return edge ? partsOf(edge).join(" ") : "0 s";
  if (unit !== "dollars") return grouped(edge);
  if (edge >= 10_000) return `$${edge.toLocaleString("en-US", { notation: "compact", maximumSignificantDigits: 12 })}`;
  const decimals = edge.toFixed(12).replace(/\.?0+$/, "").split(".")[1]?.length ?? 0;
  return `$${grouped(edge, decimals && Math.max(decimals, 2))}`;
}
