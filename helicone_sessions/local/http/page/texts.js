
// The question as text to copy: for a shell, and for Python. Neither holds the key.

/** A text of Python; JSON's escapes are Python's too. */
const python = (text) => JSON.stringify(text);
const STRINGS_OF_PYTHON = /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g;

function curlText(body) {
  // What stands between the quoted words is read by no shell, and pretty JSON has no line that is JSON alone.
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

function pythonText(asked, read) {
  const options = [
    ...(read.isEmpty ? [] : [read.python]),
    ...(asked.name ? [`name_contains=${python(asked.name)}`] : []),
    ...(asked.between ? [`time_filter=${timeFilter(asked)}`] : []),
    ...(asked.size ? [`p_size=${python(asked.size)}`] : []),
    ...(asked.isInterquartile ? ["use_interquartile=True"] : []),
    ...(asked.timezone ? [`timezone_difference=${asked.timezone}`] : []),
  ];
  const call = options.length ? `(\n${options.map((option) => `            ${option},\n`).join("")}        )` : "()";
  const code = `get_metrics${call}`;
  const words = new Set(code.replace(STRINGS_OF_PYTHON, "").match(/\w+/g));
  const names = ["ALL", "F", "NONE", "TimeFilter"].filter((name) => words.has(name));
  return `import asyncio
${words.has("datetime") ? "import datetime\n" : ""}
from helicone_sessions import ${[...names, "HeliconeClient"].sort().join(", ")}


async def main() -> None:
    async with HeliconeClient(base_url=${python(BASE.href.replace(/\/$/, ""))}) as client:
        metrics = await client.${code}
    print(metrics.average)
    for row in metrics.to_rows():
        print(row)


asyncio.run(main())
`;
}

function timeFilter({ time, between }) {
  if (time !== "between") return `TimeFilter.last(days=${time})`;
  const [start, end] = between.map((instant) => `datetime.datetime.fromisoformat("${new Date(instant).toISOString()}")`);
  return `TimeFilter(\n                ${start},\n                ${end},\n            )`;
}

function showTexts(wire, curl, python, isNone = false) {
  for (const [id, text] of Object.entries({ wire, curl, python })) {
    the(id).textContent = text;
    the(id).classList.toggle("note", isNone);
    document.querySelector(`[data-copies=${id}]`).disabled = isNone;
  }
}

/** Say in place of the texts why there are none. */
function showNoTexts(why) {
  showTexts(why, why, why, true);
}

/** Put a text into the clipboard; where the browser does not let a page do that, mark it. */
async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return "Copied.";
  } catch {
    getSelection().selectAllChildren(element);
    return "Marked: copy it with Ctrl+C.";
  }
}
