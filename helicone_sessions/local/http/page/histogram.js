
// Column charts: histograms and timelines. Each column is a button. The arrow keys move between columns.

const CHART = { height: 230, top: 22, bottom: 196 };
const GAP = 14;
const NARROWEST_CHART = 240;
const WIDTH_OF_LETTER = 7.4;

/**
 * Draw a chart with the width of *place*, its future parent element, so that its text is not scaled.
 *
 * columns: `{ value, name, act, isApart, isPartial, bar }`. With *isApart*, a column is outside the scale. *bar* is
 * the name of the bar in the list of sessions.
 * ticks: `[{ at, text }]`. *at* is the position as a number of columns from the left.
 * mark: `{ at, text }` for a vertical line, or null.
 */
function chart(place, label, columns, ticks, { mark = null, format = grouped } = {}) {
  const whole = Math.max(place.clientWidth, NARROWEST_CHART);
  const most = Math.max(...columns.map(({ value }) => value)) * 1.05 || 1;
  const heights = heightsOf(most, format);
  const longest = Math.max(...heights.map(({ text }) => text.length));
  const frame = { ...CHART, width: whole, left: 12 + longest * WIDTH_OF_LETTER, right: whole - 4 };
  const gaps = columns.filter(({ isApart }) => isApart).length * GAP;
  const width = (frame.right - frame.left - gaps) / columns.length;
  const shift = columns[0].isApart ? GAP : 0;
  const x = (at) => frame.left + at * width + (at > 0 || shift === 0 ? shift : 0);
  const y = (value) => frame.bottom - (value / most) * (frame.bottom - frame.top);
  const bars = columns.map((column, at) => {
    const isLast = column.isApart && at > 0;
    return barOf(column, x(at) + (isLast ? GAP : 0), width, y(column.value), frame);
  });
  bars[0].setAttribute("tabindex", 0);
  const picture = drawn(
    "svg",
    { viewBox: `0 0 ${frame.width} ${frame.height}`, role: "group", "aria-label": label },
    ...heights.flatMap(({ value, text }) => [
      drawn("path", { class: "tick", d: `M${frame.left} ${y(value)}H${frame.right}` }),
      drawn("text", { x: frame.left - 6, y: y(value) + 4, "text-anchor": "end" }, text),
    ]),
    ...bars,
    drawn("path", { class: "axis", d: `M${frame.left} ${frame.bottom}H${frame.right}` }),
    ...ticksOf(ticks, x, frame),
    ...markOf(mark, x, frame),
  );
  picture.addEventListener("keydown", (event) => moveInside(bars, event));
  return picture;
}

function barOf({ value, name, act, isApart, isPartial, bar }, left, width, top, frame) {
  const gap = Math.min(2, width / 8);
  const kind = isApart || isPartial ? "bar pale" : "bar";
  const box = { x: left + gap / 2, width: Math.max(width - gap, 1) };
  const height = value ? Math.max(frame.bottom - top, 1.5) : 0;
  const pressed = bar ? { "data-bar": bar, "aria-pressed": String(bar === kept.bar) } : {};
  const column = drawn(
    "g",
    { class: "column", role: "button", tabindex: -1, "aria-label": name, ...pressed },
    drawn("rect", { class: "hit", x: left, width, y: frame.top, height: frame.bottom - frame.top }),
    drawn("rect", { class: kind, ...box, y: frame.bottom - height, height }),
    drawn("title", {}, name),
  );
  column.addEventListener("click", act);
  column.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    act();
  });
  return column;
}

/** Move the focus to another column. */
function moveInside(bars, event) {
  const at = bars.indexOf(event.target);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: bars.length - 1 }[event.key];
  if (to === undefined || !bars[to]) return;
  event.preventDefault();
  bars[at].setAttribute("tabindex", -1);
  bars[to].setAttribute("tabindex", 0);
  bars[to].focus();
}

/** Return some round heights up to *most*, formatted as text. Numbers of sessions have no fractions. */
function heightsOf(most, format) {
  const least = format === grouped ? 1 : 0;
  const power = 10 ** Math.floor(Math.log10(most / 4));
  const step = Math.max(least, [1, 2, 5, 10].find((times) => times * power >= most / 4) * power);
  const found = [];
  for (let place = 0; place * step <= most; place += 1) {
    const value = exact(place * step);
    found.push({ value, text: format(value) });
  }
  return found;
}

/** Draw the labels of the axis. If they would overlap, draw only every second label, every third and so on. */
function ticksOf(ticks, x, frame) {
  const places = ticks.map(({ at, text }) => {
    const half = (text.length * WIDTH_OF_LETTER) / 2;
    return { text, middle: Math.max(half, Math.min(x(at), frame.width - half)), half };
  });
  for (let stride = 1; ; stride += 1) {
    const kept = places.filter((_, place) => place % stride === 0);
    const isClear = kept.every((one, place) => !place || one.middle - one.half > kept[place - 1].middle + kept[place - 1].half + 6);
    if (!isClear) continue;
    return kept.map(({ text, middle }) => drawn("text", { x: middle, y: frame.bottom + 18, "text-anchor": "middle" }, text));
  }
}

function* markOf(mark, x, frame) {
  if (mark === null) return;
  const place = x(mark.at);
  const isRight = place > (frame.left + frame.right) / 2;
  yield drawn("path", { class: "mean", d: `M${place} ${frame.top - 12}V${frame.bottom}` });
  const anchor = isRight ? "end" : "start";
  yield drawn("text", { class: "said", x: place + (isRight ? -5 : 5), y: frame.top - 6, "text-anchor": anchor }, mark.text);
}

/** Draw a small chart without axes, for a row of a table. */
function sparkline(values, label) {
  const most = Math.max(...values) || 1;
  const width = 120 / values.length;
  const bars = values.map((value, place) => {
    const height = value ? Math.max((value / most) * 22, 1) : 0;
    return drawn("rect", { class: "bar", x: place * width, width: Math.max(width * 0.85, 0.5), y: 23 - height, height });
  });
  return drawn("svg", { viewBox: "0 0 120 24", class: "spark", role: "img", "aria-label": label }, ...bars);
}
