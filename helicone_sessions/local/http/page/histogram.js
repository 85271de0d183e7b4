
// One histogram: bars as wide as their ranges and as high as the sessions in them are dense.

const WIDTH = 380;
const HEIGHT = 252;
const FRAME = { left: 48, right: WIDTH - 24, top: 40, bottom: HEIGHT - 42 };
// All sessions alike, or many of one value: a bar needs a width to be seen.
const NARROWEST = 0.02;
const HEADROOM = 1.1;
// Beyond these numbers at an axis are shortened.
const SMALLEST = 1e-4;
const LARGEST = 10_000;

/** The bars of an answer: from, to, sessions, and what one is drawn as. */
function barsOf(rows) {
  const bars = rows.map(({ range_start, range_end, value }) => ({ start: Number(range_start), end: Number(range_end), value }));
  if (!bars.length) return bars;
  const [low, high] = [bars[0].start, bars.at(-1).end];
  const least = NARROWEST * (high - low) || Math.abs(high) / 10 || 0.1;
  for (const bar of bars) {
    bar.width = bar.end - bar.start || least;
    bar.left = (bar.start + bar.end - bar.width) / 2;
    bar.density = bar.value / bar.width;
  }
  return bars;
}

function histogram(title, bars, mean, unit) {
  const ends = endsOf(bars);
  const marked = placeOfMean(ends, mean);
  const low = Math.min(ends[0], marked.at ?? Infinity);
  const high = Math.max(ends[1], marked.at ?? -Infinity);
  const most = Math.max(...bars.map(({ density }) => density)) * HEADROOM || 1;
  const x = (value) => FRAME.left + ((value - low) / (high - low)) * (FRAME.right - FRAME.left);
  const y = (density) => FRAME.bottom - (density / most) * (FRAME.bottom - FRAME.top);
  const told = `${title}: ${bars.length} bars from ${number(bars[0].start, unit)} to ${number(bars.at(-1).end, unit)} ${unit}, mean of all ${number(mean, unit)}`;
  return drawn(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": told },
    ...axes(low, high, most, x, y, unit),
    ...bars.map((bar) => barOf(bar, x, y, unit)),
    drawn("path", { class: "axis", d: `M${FRAME.left} ${FRAME.bottom}H${FRAME.right}` }),
    ...meanOf(marked, mean, x, unit),
  );
}

function barOf({ start, end, value, left, width, density }, x, y, unit) {
  const shape = { x: x(left), width: x(left + width) - x(left), y: y(density), height: FRAME.bottom - y(density) };
  const tip = `${number(start, unit)} to ${number(end, unit)} ${unit}: ${grouped(value, 1)} sessions`;
  return drawn("rect", { class: "bar", ...shape }, drawn("title", {}, tip));
}

/** Where the picture ends on both sides; beside a single value there is room. */
function endsOf(bars) {
  const [low, high] = [Math.min(...bars.map(({ left }) => left)), Math.max(...bars.map(({ left, width }) => left + width))];
  const room = bars[0].start === bars.at(-1).end ? high - low : 0;
  return [low - room, high + room];
}

/** Where the mean of all sessions lies; as they are not cut, it may lie far beyond the bars. */
function placeOfMean([low, high], mean) {
  if (mean === null) return {};
  if (mean > high + (high - low)) return { arrow: "→" };
  if (mean < low - (high - low)) return { arrow: "←" };
  return { at: mean };
}

function* meanOf({ at, arrow }, mean, x, unit) {
  if (mean === null) return;
  const said = `mean of all ${number(mean, unit)}`;
  const place = at === undefined ? (arrow === "→" ? FRAME.right : FRAME.left) : x(at);
  const isRight = place > (FRAME.left + FRAME.right) / 2;
  if (at !== undefined) yield drawn("path", { class: "mean", d: `M${place} ${FRAME.top - 18}V${FRAME.bottom}` });
  const text = arrow === "→" ? `${said} →` : arrow ? `← ${said}` : said;
  yield drawn("text", { class: "said", x: place + (isRight ? -5 : 5), y: FRAME.top - 9, "text-anchor": isRight ? "end" : "start" }, text);
}

function* axes(low, high, most, x, y, unit) {
  for (const { value, said } of ticks(0, most, 5)) {
    yield drawn("path", { class: "tick", d: `M${FRAME.left} ${y(value)}H${FRAME.right}` });
    yield drawn("text", { x: FRAME.left - 5, y: y(value) + 4, "text-anchor": "end" }, said);
  }
  for (const { value, said } of ticks(low, high, 5)) {
    yield drawn("path", { class: "axis", d: `M${x(value)} ${FRAME.bottom}v4` });
    yield drawn("text", { x: x(value), y: FRAME.bottom + 20, "text-anchor": "middle" }, said);
  }
  yield drawn("text", { x: (FRAME.left + FRAME.right) / 2, y: HEIGHT - 5, "text-anchor": "middle" }, unit);
  yield drawn("text", { x: 1, y: 10 }, `sessions per ${unit.replace(/s$/, "")}`);
}

/** Some round numbers between the ends, and how they are written. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((times) => times * power >= rough) * power;
  const decimals = Math.min(12, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
  const plain = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  const short = { notation: high < 1 ? "scientific" : "compact", maximumSignificantDigits: 3 };
  const form = new Intl.NumberFormat("en-US", high < SMALLEST || high >= LARGEST ? short : plain);
  const found = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high * (1 + 1e-9); place += 1) {
    // There is a zero below zero, which is written with its sign.
    const value = place * step || 0;
    found.push({ value, said: form.format(value) });
  }
  return found;
}
