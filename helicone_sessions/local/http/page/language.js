
// What may stand at a place of a filter. It only helps to write: whether the text is right, the server says.

// A text, a text without its end, a sign, a mark, a word.
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

// What is due after one token, by what was due before it; null where nothing can be told.
const NEXT = {
  condition(seen, { sort, word, small }) {
    if (JOINERS.has(small) || NEGATIONS.has(small) || word === "(") return "condition";
    if (sort === "text" || /^[+-.]*\d/.test(word)) return "sign";
    if (small === "all" || small === "none") return "joiner";
    seen.column = COLUMNS.get(word) ?? COLUMNS.get(word.replaceAll("_", "-")) ?? null;
    seen.isRange = false;
    seen.prefix = null;
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
  key: (_seen, { word }) => (word === "]" ? "operator" : "key"),
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

/**
 * What is due behind *text*: a "condition", an "operator", a "key", a "value", a "list", the "between-and"
 * or a "joiner", or null where nothing can be told; the column that it is about; and where the partial word
 * starts that is being written.
 */
function contextOf(text) {
  const tokens = tokensOf(text);
  const last = tokens.at(-1);
  let start = text.length;
  if (last?.sort === "word" && last.end === text.length) start = tokens.pop().start;
  const seen = { column: null, isRange: false, prefix: null };
  let due = "condition";
  for (const token of tokens) {
    // The API's JSON may stand there too, and in a text that is not closed there is nothing to complete.
    const isOpaque = token.word === "{" || token.sort === "open" || token.sort === "other";
    due = isOpaque ? null : NEXT[due](seen, { ...token, small: token.word.toLowerCase() });
    if (due === null) break;
  }
  // "is not nu" is one operator that is being written.
  if (due === "operator" && seen.prefix !== null) start = seen.prefix;
  return { due, column: seen.column, start };
}

/** What can be put in there: the text, where the caret goes in it, and a phrase about it. */
function optionsFor({ due, column }) {
  if (due === "condition") return [...columnOptions(), ...plain(["not", "all", "none"])];
  if (due === "joiner") return plain(["and", "or"]);
  if (due === "between-and") return plain(["and"]);
  if (due === "operator") return operatorOptions(column);
  if (due === "value") return valueOptions(column);
  return [];
}

function* columnOptions() {
  for (const { name, kind, unit, about: phrase } of FACTS.columns) {
    const of = kind === "number" ? `number, ${unit}` : kind === "map" ? "map of texts by key" : kind;
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
  contains: "anywhere in the text, in capitals or not",
  like: "a pattern: % is any text, _ any one character",
  ilike: "the same, in capitals or not",
  in: "one of several",
  "not in": "none of several",
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
  if (takes !== "timestamp") return [{ shown: '"…"', text: '"" ', back: 2, about: "a text in quotes" }];
  return [0, 7, 30].map((days) => {
    const time = new Date(Date.now() - days * 86_400_000);
    const text = `${time.toISOString().slice(0, 10)}T00:00:00Z`;
    return { shown: text, text: `${text} `, about: days ? `${days} days ago, in UTC` : "today, in UTC" };
  });
}

const plain = (words) => words.map((word) => ({ shown: word, text: `${word} `, about: "" }));

/** A sentence about what is due; empty where there is nothing to say. */
function hintFor({ due, column }) {
  if (column === null) return "";
  const unit = column.unit && column.unit !== "code" ? `, in ${column.unit}` : "";
  const of = {
    number: `a number${unit}`,
    timestamp: "a time with its zone, as 2026-11-01T00:00:00Z",
    boolean: "true or false",
  }[column.takes] ?? 'a text in quotes, as "gpt-4o"';
  if (due === "value") return `${column.name}: ${of}.`;
  if (due === "list") return `${column.name}: in parentheses, with commas, each ${of}.`;
  if (due === "key") return `${column.name}: the key, in quotes.`;
  if (due === "operator") return `${column.name}: ${column.about}${unit}.${service(column)}`;
  return "";
}

const service = (column) => (column.service ? ` Helicone's open-source server: ${column.service}.` : "");

/** Those of the options that the partial word may become, the likeliest first. */
function matching(options, partial) {
  const small = partial.toLowerCase().replace(/\s+/g, " ");
  const rank = ({ shown, about }) => {
    const name = shown.toLowerCase();
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
