
// Elements of the page. Text from people or from the server is inserted as text, never as HTML.

const FACTS = JSON.parse(document.getElementById("facts").textContent);
const COLUMNS = new Map([...FACTS.aliases, ...FACTS.columns].map((column) => [column.name, column]));

const the = (id) => document.getElementById(id);

/** An element of HTML with attributes and children, each a node or text. */
function made(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** An element of SVG. */
function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A button that calls *act*. */
function button(text, act, attributes = {}) {
  const element = made("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", act);
  return element;
}

/** A number in full precision for programs, and rounded for people. */
const data = (value, shown) => made("data", { value: value ?? "" }, shown);
