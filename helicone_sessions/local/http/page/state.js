
// The state of the page: its fields, and the part of the address behind the #, which no server receives.

// Fields that are the state, and their values in an address without them.
const FIELDS = {
  filter: "", name: "", time: "", from: "", to: "", cut: "p95", both: false, sessioned: false,
  scale: "auto", by: "model", property: "", top: "10", every: "auto", quantity: "dollars", sort: "-dollars", bar: "",
};
// Fields of the page whose element has another id, because an address names them differently.
const IDS = { cut: "size", both: "interquartile" };
/** The parts of the state that no field of the page holds: the order of the sessions, and the selected bar. */
const kept = { sort: FIELDS.sort, bar: FIELDS.bar };

const fieldOf = (name) => the(IDS[name] ?? name);

function valueOf(name) {
  if (name in kept) return kept[name];
  const field = fieldOf(name);
  if (field.type === "checkbox") return field.checked;
  // A shared address has the same instants in every zone.
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
  // A value that a select does not have.
  if (field.selectedIndex === -1) field.value = FIELDS[name];
}

/** The address of the present state, without the key. */
function addressOfState() {
  const parts = Object.entries(FIELDS)
    .map(([name, usual]) => [name, valueOf(name), usual])
    .filter(([, value, usual]) => value !== usual)
    .map(([name, value]) => `${name}=${encodeURIComponent(value === true ? "yes" : value)}`);
  return location.pathname + location.search + (parts.length ? `#${parts.join("&")}` : "");
}

/** Put the state into the address, so that it can be shared and the back button returns to the former one. */
function remember() {
  const address = addressOfState();
  if (address !== location.pathname + location.search + location.hash) history.pushState(null, "", address);
}

/** Take the state from the address; returns the key in it, which leaves the address at once. */
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

/** An instant as the text of a field of local time; "" if it is none. */
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
