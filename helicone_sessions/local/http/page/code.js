
// The query as code, in Python, for the command line, for curl and in JSON. The code never contains the key.

const TABS = ["python", "command", "curl", "wire"];
/** Format a string literal for Python. JSON's escapes are also valid in Python. */
const python = (text) => JSON.stringify(text);
const STRINGS_OF_PYTHON = /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g;
/** Quote a word for a shell. */
const word = (text) => (/^[\w.:/-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
const address = () => BASE.href.replace(/\/$/, "");

function curlText(body) {
  // The shell does not expand the body in the here-document, and no line of indented JSON can end it.
  return [
    `curl -sS '${new URL(FACTS.queryPath, BASE).href.replaceAll("'", "%27")}' \\`,
    '  -H "Authorization: Bearer $HELICONE_API_KEY" \\',
    "  -H 'Content-Type: application/json' \\",
    "  --data-binary @- <<'JSON'",
    JSON.stringify(body, null, 2),
    "JSON",
    "",
  ].join("\n");
}

function commandText({ time, between, size, isInterquartile, name, isSessioned }, text) {
  const words = ["helicone-sessions metrics"];
  // A filter that starts with a dash is put in parentheses, so that it is not parsed as an option.
  const filter = text.trim().startsWith("-") ? `(${text.trim()})` : text.trim();
  if (filter) words.push(word(filter));
  if (time === "between") {
    const { startTimeUnixMs: start, endTimeUnixMs: end } = timeFilter(between);
    words.push(`--from ${iso(start)}`, `--to ${iso(end)}`);
  } else if (time) words.push(`--last ${time}d`);
  words.push(`--p-size ${size}`);
  if (isInterquartile) words.push("--use-interquartile");
  if (name) words.push(`--name-contains=${word(name)}`);
  if (isSessioned) words.push("--without-unsessioned");
  return `export HELICONE_BASE_URL=${word(address())}\n${words.join(" \\\n  ")}\n`;
}

const iso = (instant) => new Date(instant).toISOString();

function pythonText(asked, read) {
  const filter = pythonFilter(asked, read);
  const options = [
    ...(filter === null ? [] : [filter]),
    ...(asked.name ? [`name_contains=${python(asked.name)}`] : []),
    ...(asked.between ? [`time_filter=${timeInPython(asked)}`] : []),
    `p_size=${python(asked.size)}`,
    ...(asked.isInterquartile ? ["use_interquartile=True"] : []),
  ];
  const code = `get_metrics(\n${options.map((option) => `            ${option},\n`).join("")}        )`;
  const words = new Set(code.replace(STRINGS_OF_PYTHON, "").match(/\w+/g));
  const names = ["ALL", "F", "NONE", "TimeFilter"].filter((name) => words.has(name));
  return `import asyncio
${words.has("datetime") ? "import datetime\n" : ""}
from helicone_sessions import ${[...names, "HeliconeClient"].sort().join(", ")}


async def main() -> None:
    async with HeliconeClient(base_url=${python(address())}) as client:
        metrics = await client.${code}
    print(metrics.average)
    for row in metrics.to_rows():
        print(row)


asyncio.run(main())
`;
}

function timeInPython({ time, between }) {
  if (time !== "between") return `TimeFilter.last(days=${time})`;
  const { startTimeUnixMs: start, endTimeUnixMs: end } = timeFilter(between);
  return `TimeFilter(${python(iso(start))}, ${python(iso(end))})`;
}

function showCode(texts, isNone = false) {
  for (const [id, text] of Object.entries(texts)) {
    the(id).textContent = text;
    the(id).classList.toggle("note", isNone);
  }
  the("copy").disabled = isNone;
}

/** Explain, in place of the code, why there is none. */
const showNoCode = (why) => showCode(Object.fromEntries(TABS.map((id) => [id, why])), true);

/** Show one tab. The arrow keys, Home and End move between tabs. */
function selectTab(id) {
  for (const each of TABS) {
    const isSelected = each === id;
    the(`${each}-tab`).setAttribute("aria-selected", String(isSelected));
    the(`${each}-tab`).tabIndex = isSelected ? 0 : -1;
    the(each).hidden = !isSelected;
  }
}

const selectedTab = () => TABS.find((id) => !the(id).hidden);

for (const [place, id] of TABS.entries()) {
  the(`${id}-tab`).addEventListener("click", () => selectTab(id));
  the(`${id}-tab`).addEventListener("keydown", (event) => {
    const last = TABS.length - 1;
    const to = { ArrowRight: place === last ? 0 : place + 1, ArrowLeft: place ? place - 1 : last, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    selectTab(TABS[to]);
    the(`${TABS[to]}-tab`).focus();
  });
}

the("copy").addEventListener("click", async () => {
  the("copied").textContent = await copy(the(selectedTab()));
});

/** Copy the text of an element to the clipboard. If the browser does not allow this, select the text. */
async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return "Copied.";
  } catch {
    getSelection().selectAllChildren(element);
    return "Selected. Copy it with Ctrl+C.";
  }
}
