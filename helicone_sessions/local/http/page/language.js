
// Suggestions for the caret position in a filter. The server decides whether a filter is valid.

// A token is a quoted text, an unclosed text, a comparison sign, a punctuation mark or a word.
const TOKEN =
  /\s*(?:(?<text>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')|(?<open>["'][^]*$)|(?<sign>[=!<>]=|<>|[=<>])|(?<mark>[()[\]{},&|~])|(?<word>[^\s()[\]{},"'&|~<>=!]+)|(?<other>\S))/gy;

const JOINERS = new Set(["and", "or", "&", "|"]);
const NEGATIONS = new Set(["not", "~"]);
const WORDED = new Set(["contains", "like", "ilike", "startswith", "endswith", "istartswith", "iendswith"]);
const ENDINGS = new Set(["null", "empty", "true", "false"]);

function tokensOf(text) {
  return [...text.matchAll(TOKEN)].map((found) => {
    const [sort, word] = Object.entries(found.groups).find(([, value]) => value !== undefined);
    const end = found.index + found[0].length;
    return { sort, word, start: end - word.length, end };
  });
}

// Functions that return which part follows a token, by the part that the token is; null if unknown.
const NEXT = {
  condition(seen, { sort, word, small }) {
    if (JOINERS.has(small) || NEGATIONS.has(small) || word === "(") return "condition";
    if (sort === "text" || /^[+-.]*\d/.test(word)) return "sign";
    if (small === "all" || small === "none") return "joiner";
    seen.column = COLUMNS.get(word) ?? COLUMNS.get(word.replaceAll("_", "-")) ?? null;
    seen.isRange = false;
    seen.prefix = null;
    seen.key = seen.column?.key ?? null;
    return seen.column && "operator";
  },
  sign: (_seen, { sort }) => (sort === "sign" ? "condition" : null),
  operator(seen, { sort, word, small, start }) {
    if (small === "not" || small === "is") {
      seen.prefix ??= start;
      return "operator";
    }
    seen.isRange = small === "between";
    if (word === "[") return "key";
    if (small === "in") return "list";
    if (sort === "sign" || seen.isRange || WORDED.has(small)) return "value";
    if (JOINERS.has(small)) return "condition";
    return ENDINGS.has(small) || word === ")" ? "joiner" : null;
  },
  key(seen, { sort, word }) {
    if (sort === "text") seen.key = textOf(word);
    return word === "]" ? "operator" : "key";
  },
  value: (seen) => (seen.isRange ? "between-and" : "joiner"),
  "between-and"(seen, { small }) {
    seen.isRange = false;
    return small === "and" ? "value" : null;
  },
  list: (_seen, { word }) => (word === ")" || word === "]" ? "joiner" : "list"),
  joiner(_seen, { sort, word, small }) {
    if (sort === "sign") return "value";
    if (JOINERS.has(small)) return "condition";
    return word === ")" ? "joiner" : null;
  },
};

/** Decode a quoted text. Texts in a filter use JSON's escapes. */
function textOf(quoted) {
  try {
    return JSON.parse(`"${quoted.slice(1, -1).replace(/\\'/g, "'").replace(/(?<!\\)"/g, '\\"')}"`);
  } catch {
    return null;
  }
}

/**
 * Determine the context at the end of *text*: the part that follows ("condition", "operator", "key", "value",
 * "list", "between-and" or "joiner", or null if unknown), its column and key, and the start of the current word.
 */
function contextOf(text) {
  const tokens = tokensOf(text);
  const last = tokens.at(-1);
  let start = text.length;
  if (last?.sort === "word" && last.end === text.length) start = tokens.pop().start;
  const seen = { column: null, key: null, isRange: false, prefix: null };
  let due = "condition";
  for (const token of tokens) {
    if (token.sort === "open" && (due === "value" || due === "list")) {
      start = token.start;
      break;
    }
    // There are no suggestions for filters in the API's JSON, or inside an unclosed text.
    const isOpaque = token.word === "{" || token.sort === "open" || token.sort === "other";
    due = isOpaque ? null : NEXT[due](seen, { ...token, small: token.word.toLowerCase() });
    if (due === null) break;
  }
  // "is not nu" is the beginning of a single operator.
  if (due === "operator" && seen.prefix !== null) start = seen.prefix;
  return { due, column: seen.column, key: seen.key, start };
}

/** List the suggestions. Each has a text, the distance of the caret from its end, and a description. */
function optionsFor({ due, column, key }) {
  if (due === "condition") return [...columnOptions(), ...plain(["not", "all", "none"])];
  if (due === "joiner") return plain(["and", "or"]);
  if (due === "between-and") return plain(["and"]);
  if (due === "operator") return operatorOptions(column);
  if (due === "value") return [...storedOptions(column, key, " "), ...valueOptions(column)];
  if (due === "list") return storedOptions(column, key, ", ");
  return [];
}

/** List values from the data. The first call for a column requests them. */
function storedOptions(column, key, ending) {
  const found = storedValues(column, key) ?? [];
  return found.map((value) => ({ shown: JSON.stringify(value), text: `${JSON.stringify(value)}${ending}`, about: "" }));
}

function* columnOptions() {
  for (const { name, kind, unit, about: phrase } of COLUMNS.values()) {
    const of = kind === "number" ? `number, ${unit}` : kind === "map" ? "map of text by key" : kind;
    const about = `${of}: ${phrase}`;
    if (kind !== "map") {
      yield { shown: name, text: `${name} `, about };
      continue;
    }
    yield { shown: `${name}["…"]`, text: `${name}[""] `, back: 3, about };
    for (const key of FACTS.keys[name] ?? []) {
      yield { shown: `${name}["${key}"]`, text: `${name}["${key}"] `, about };
    }
  }
}

const OPERATORS = {
  contains: "anywhere in the text, upper or lower case",
  like: "a pattern: % is any text, _ one character",
  ilike: "a pattern, upper or lower case",
  in: "one of several values",
  "not in": "none of several values",
  between: "from … and …, both included",
};

function operatorOptions({ kind, operators }) {
  const found = operators.map((operator) =>
    operator === "in" || operator === "not in"
      ? { shown: `${operator} (…)`, text: `${operator} () `, back: 2, about: OPERATORS[operator] }
      : { shown: operator, text: `${operator} `, about: OPERATORS[operator] ?? "" },
  );
  return kind === "boolean" ? [...plain(["and", "or"]), ...found] : found;
}

function valueOptions({ takes }) {
  if (takes === "boolean") return plain(["true", "false"]);
  if (takes === "number") return [];
  if (takes !== "timestamp") return [{ shown: '"…"', text: '"" ', back: 2, about: "text in quotes" }];
  return [0, 7, 30].map((days) => {
    const time = new Date(Date.now() - days * 86_400_000);
    const text = `${time.toISOString().slice(0, 10)}T00:00:00Z`;
    return { shown: text, text: `${text} `, about: days ? `${days} days ago, in UTC` : "today, in UTC" };
  });
}

const plain = (words) => words.map((word) => ({ shown: word, text: `${word} `, about: "" }));

/** Return a hint about the part that follows, or "" if there is none. */
function hintFor({ due, column }) {
  if (column === null) return "";
  const unit = column.unit && column.unit !== "code" ? `, in ${column.unit}` : "";
  const of = {
    number: `a number${unit}`,
    timestamp: "a time with its zone, such as 2026-11-01T00:00:00Z",
    boolean: "true or false",
  }[column.takes] ?? 'text in quotes, such as "gpt-4o"';
  if (due === "value") return `${column.name}: ${of}.`;
  if (due === "list") return `${column.name}: values in parentheses, with commas between them, each ${of}.`;
  if (due === "key") return `${column.name}: the key, in quotes.`;
  if (due === "operator") return `${column.name}: ${column.about}${unit}.${service(column)}`;
  return "";
}

const service = (column) => (column.service ? ` Helicone's open-source server: ${column.service}.` : "");

/** Return the options that match the partial word, the best match first. */
function matching(options, partial) {
  const written = partial.toLowerCase().replace(/\s+/g, " ");
  const small = written.replace(/^["']/, "");
  const rank = ({ shown, about }) => {
    const name = shown.toLowerCase().replace(/^"/, "");
    if (name.startsWith(small)) return 0;
    if (name.includes(`_${small}`) || name.includes(`-${small}`)) return 1;
    if (name.includes(small)) return 2;
    return /^\w{3,}$/.test(small) && about.toLowerCase().includes(small) ? 3 : 9;
  };
  return [...options]
    .map((option) => [rank(option), option])
    .filter(([place]) => place < 9)
    .sort(([one], [other]) => one - other)
    .map(([, option]) => option);
}
