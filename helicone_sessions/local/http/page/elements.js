
// Elements of the page. Whatever comes from people or from the server goes in as text, never as HTML.

const FACTS = JSON.parse(document.getElementById("facts").textContent);
const COLUMNS = new Map(FACTS.columns.map((column) => [column.name, column]));

const the = (id) => document.getElementById(id);

/** An element of HTML with attributes and children, each a node or text. */
function made(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same of SVG. */
function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The value as people read it, in the same form as the tables of the package; a dash where there is none. */
function number(value, unit) {
  if (value === null) return "-";
  const size = Math.abs(value);
  if (unit === "dollars") return size >= 1 ? grouped(value, 2) : value.toFixed(4);
  return size >= 100 ? grouped(value, 0) : String(Number(value.toPrecision(3)));
}

/** With commas between the thousands and so many decimals. */
function grouped(value, decimals) {
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}
