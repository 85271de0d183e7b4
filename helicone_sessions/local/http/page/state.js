
// The state of the page: its fields, and the fragment of the URL. Browsers never send the fragment to a server.

// The fields that make up the state, with their values if the URL does not contain them.
const FIELDS = {
  filter: "", name: "", time: "", from: "", to: "", cut: "p95", both: false, sessioned: false,
  scale: "auto", by: "model", property: "", top: "10", every: "auto", quantity: "dollars", sort: "-dollars", bar: "",
};
// Fields whose name in the URL differs from the id of their element.
const IDS = { cut: "size", both: "interquartile" };
/** The parts of the state that have no field on the page: the order of the sessions, and the selected bar. */
const kept = { sort: FIELDS.sort, bar: FIELDS.bar };

const fieldOf = (name) => the(IDS[name] ?? name);

function valueOf(name) {
  if (name in kept) return kept[name];
  const field = fieldOf(name);
  if (field.type === "checkbox") return field.checked;
  // A shared URL refers to the same instants in every time zone.
  if (field.type === "datetime-local") return field.value && new Date(field.value).toISOString();
  return field.value;
}

function setValue(name, value) {
  if (name in kept) {
    kept[name] = value;
    return;
  }
  const field = fieldOf(name);
  if (field.type === "checkbox") field.checked = value === true || value === "yes";
  else if (field.type === "datetime-local") field.value = localText(Date.parse(value));
  else field.value = value;
  // The list does not contain this value.
  if (field.selectedIndex === -1) field.value = FIELDS[name];
}

/** Build the URL of the current state, without the key. */
function addressOfState() {
  const parts = Object.entries(FIELDS)
    .map(([name, usual]) => [name, valueOf(name), usual])
    .filter(([, value, usual]) => value !== usual)
    .map(([name, value]) => `${name}=${encodeURIComponent(value === true ? "yes" : value)}`);
  return location.pathname + location.search + (parts.length ? `#${parts.join("&")}` : "");
}

/** Put the state into the URL, so that it can be shared and the back button restores the previous state. */
function remember() {
  const address = addressOfState();
  if (address !== location.pathname + location.search + location.hash) history.pushState(null, "", address);
}

/** Load the state from the URL. If the URL contains a key, remove it from the URL and return it. */
function takeState() {
  const found = new Map();
  for (const part of location.hash.slice(1).split("&")) {
    const at = part.indexOf("=");
    if (at > 0) found.set(part.slice(0, at), decoded(part.slice(at + 1)));
  }
  const secret = found.get("key");
  found.delete("key");
  for (const [name, usual] of Object.entries(FIELDS)) setValue(name, found.get(name) ?? usual);
  if (secret !== undefined) history.replaceState(null, "", addressOfState());
  return secret;
}

/** Format an instant for a local time field; "" if it is invalid. */
function localText(instant) {
  if (Number.isNaN(instant)) return "";
  const at = new Date(instant);
  at.setMinutes(at.getMinutes() - at.getTimezoneOffset());
  return at.toISOString().slice(0, 19);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
