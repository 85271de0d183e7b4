
// The filter box. It sends the text to the server shortly after the last keystroke, to be parsed.

const PAUSE = 150;
const NOT_YET = "Reading the filter …";

class FilterBox {
  #box = the("filter");
  #shown = the("reading");
  #timer = null;
  #reading = null;
  #onRead;
  #completion;
  /** The filter: `{ isEmpty }`, `{ python, wire, … }`, `{ error }`, or null until the server has parsed it. */
  read = { isEmpty: true };
  /** The reason why there is no filter. */
  unread = NOT_YET;

  constructor(onRead) {
    this.#onRead = onRead;
    const completion = (this.#completion = new Completion(this.#box, the("options")));
    this.#box.addEventListener("input", () => {
      completion.offer();
      this.readSoon();
    });
    this.#box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      completion.dismiss();
      this.#box.form.requestSubmit();
    });
  }

  /** The filter text. */
  get text() {
    return this.#box.value;
  }

  set text(value) {
    this.#box.value = value;
    this.readSoon();
  }

  /** Update the suggestions when values have arrived. */
  offerAgain() {
    this.#completion.offerAgain();
  }

  /** Parse the text after a short pause in typing. Responses to earlier texts are dropped. */
  readSoon() {
    this.#forget();
    this.#timer = setTimeout(() => this.readNow().catch(() => {}), this.#box.value.trim() ? PAUSE : 0);
  }

  /** Parse the text now, unless it is already parsed. Returns the filter. */
  async readNow() {
    if (this.read !== null) return this.read;
    this.#forget();
    const { signal } = (this.#reading = new AbortController());
    const text = this.#box.value;
    let read;
    try {
      read = text.trim() ? await post(FACTS.filterPath, { text }, signal) : { isEmpty: true };
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

  /** Move the focus to the box. */
  focus() {
    this.#box.focus();
    this.#box.scrollIntoView({ block: "nearest" });
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
    else this.#show(made("pre", { tabindex: 0, role: "region", "aria-label": "Meaning of the filter" }, read.explain), ...cautions(read.cautions));
  }

  #mistake({ error, position }, text) {
    // The first line is the message. The other lines point at the position.
    const [words, ...picture] = error.split("\n");
    const shown = made("div", { class: "problem" }, made("p", {}, words));
    if (picture.length) shown.append(made("pre", {}, picture.join("\n")));
    if (position) {
      // The server counts characters, but the text box counts UTF-16 code units.
      const start = [...text].slice(0, position.offset).join("").length;
      const length = text.slice(start).match(/^(?:[\w.-]+|[^]?)/)[0].length;
      const select = () => {
        this.#box.focus();
        this.#box.setSelectionRange(start, start + length);
      };
      shown.append(button("Go to the error", select));
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
  const title = "Helicone's open-source server reads this filter differently:";
  return [made("div", { class: "caution" }, made("p", {}, title), made("ul", {}, ...items))];
}
