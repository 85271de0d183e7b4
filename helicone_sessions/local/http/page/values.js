
// Column values from the data, for suggestions. The values of each column are requested once.

const MOST_VALUES = 30;
const stored = new Map();

/** Return the most expensive values of a column, or undefined until they arrive. */
function storedValues(column, key) {
  const name = key === null ? column.name : "properties";
  const isKnown = name === "properties" ? key !== null : FACTS.groupable.includes(name);
  if (!isKnown || column.takes !== "text" || !access.key || access.offersGrid === false) return [];
  const id = JSON.stringify([name, key]);
  if (!stored.has(id)) {
    stored.set(id, undefined);
    requestValues(name, key).then((values) => {
      stored.set(id, values);
      box.offerAgain();
    });
  }
  return stored.get(id);
}

async function requestValues(column, key) {
  const by = key === null ? { column } : { column, key };
  const query = { nameContains: "", timezoneDifference: 0 };
  try {
    const { data } = await post(FACTS.gridPath, { query, segments: { ...by, top: MOST_VALUES }, totals: false });
    return data.values.filter((value) => typeof value === "string" && value !== "");
  } catch (error) {
    // Suggestions are optional. If there is a problem, the query itself reports it.
    if (error instanceof Refused) return [];
    throw error;
  }
}
