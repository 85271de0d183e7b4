
// The filter box: the server reads what is typed, a moment after the last key.

const PAUSE = 150;
const NOT_YET = "The filter is not read yet.";

class FilterBox {
  #box = the("filter");
  #shown = the("reading");
  #timer = null;
  #reading = null;
  #onRead;
  /** What the box says: `{ isEmpty }`, `{ python, wire, … }`, `{ error }`, or null while it is not read. */
  read = { isEmpty: true };
  /** Why it is not read. */
  unread = NOT_YET;

  constructor(onRead) {
    this.#onRead = onRead;
    const completion = new Completion(this.#box, the("options"));
    this.#box.addEventListener("input", () => {
      completion.offer();
      this.readSoon();
    });
    this.#box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      completion.close();
      this.#box.form.requestSubmit();
    });
  }

  /** Read it when nobody types for a moment; an answer to what it said before is dropped. */
  readSoon() {
    this.#forget();
    this.#timer = setTimeout(() => this.readNow().catch(() => {}), this.#box.value.trim() ? PAUSE : 0);
  }

  /** Read it now, unless that is done already; what it says. */
  async readNow() {
    if (this.read !== null) return this.read;
    this.#forget();
    const { signal } = (this.#reading = new AbortController());
    const text = this.#box.value;
    let read;
    try {
      read = text.trim() ? await asked(FACTS.filterPath, { text }, signal) : { isEmpty: true };
    } catch (error) {
      if (signal.aborted) return null;
      if (error instanceof Refused) this.#refuse(error.message);
      throw error;
    }
    if (signal.aborted) return null;
    this.read = read;
    this.#tell(read, text);
    this.#onRead();
    return read;
  }

  /** Put the caret into it. */
  focus() {
    this.#box.focus();
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#reading?.abort();
    this.read = null;
    this.unread = NOT_YET;
    this.#onRead();
  }

  #refuse(why) {
    this.unread = why;
    this.#show(made("p", { class: "note" }, why));
    this.#onRead();
  }

  #tell(read, text) {
    this.#box.setAttribute("aria-invalid", String("error" in read));
    if (read.isEmpty) this.#show();
    else if ("error" in read) this.#show(this.#mistake(read, text));
    else this.#show(made("pre", { "aria-label": "What it says" }, read.explain), ...cautions(read.cautions));
  }

  #mistake({ error, position }, text) {
    // Its first line is words, the others show the place.
    const [words, ...picture] = error.split("\n");
    const shown = made("div", { class: "problem" }, made("p", {}, words));
    if (picture.length) shown.append(made("pre", {}, picture.join("\n")));
    if (position) {
      // The server counts characters, the box the halves of surrogate pairs.
      const start = [...text].slice(0, position.offset).join("").length;
      const length = text.slice(start).match(/^(?:[\w.-]+|[^]?)/)[0].length;
      const button = made("button", { type: "button" }, "Go there");
      button.addEventListener("click", () => {
        this.#box.focus();
        this.#box.setSelectionRange(start, start + length);
      });
      shown.append(button);
    }
    return shown;
  }

  #show(...children) {
    this.#shown.replaceChildren(...children);
  }
}

function cautions(found) {
  if (!found.length) return [];
  const items = found.map(({ condition, reason, remedy }) =>
    made("li", {}, made("code", {}, condition), `: ${reason}; ${remedy}`),
  );
  return [made("p", { class: "note" }, "Helicone's open-source server reads it differently:"), made("ul", {}, ...items)];
}
