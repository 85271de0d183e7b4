
// Elements of the page. Text from users or from the server is inserted as text, never as HTML.

const FACTS = JSON.parse(document.getElementById("facts").textContent);
const COLUMNS = new Map([...FACTS.aliases, ...FACTS.columns].map((column) => [column.name, column]));

const the = (id) => document.getElementById(id);

/** Create an HTML element with attributes and children. Each child is a node or a text. */
function made(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Create an SVG element. */
function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Create a button that calls *act*. */
function button(text, act, attributes = {}) {
  const element = made("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", act);
  return element;
}

/** Create a `data` element with the full value for programs and a rounded text for people. */
const data = (value, shown) => made("data", { value: value ?? "" }, shown);
