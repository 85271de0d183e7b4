
// The list of suggestions at the caret, controlled by the arrow keys, Enter, Tab, Escape and the mouse.

class Completion {
  #box;
  #list;
  #options = [];
  #chosen = -1;
  #start = 0;
  #isAsked = false;
  #isDismissed = false;
  #usualHint = the("hint").textContent;

  constructor(box, list) {
    this.#box = box;
    this.#list = list;
    box.addEventListener("keydown", (event) => this.#pressed(event));
    box.addEventListener("blur", () => {
      this.close();
      the("hint").textContent = this.#usualHint;
    });
    // The box keeps the focus when the user clicks or scrolls the list.
    list.addEventListener("mousedown", (event) => event.preventDefault());
    list.addEventListener("click", (event) => {
      const place = [...list.children].indexOf(event.target.closest("li"));
      if (place >= 0) this.#take(place);
    });
  }

  /** Show the suggestions at the caret. With *isAsked*, show them even before the user has started a word. */
  offer(isAsked = false) {
    this.#isAsked = isAsked;
    this.#isDismissed = false;
    const { value, selectionStart, selectionEnd } = this.#box;
    if (selectionStart !== selectionEnd || document.activeElement !== this.#box) return this.close();
    const context = contextOf(value.slice(0, selectionStart));
    const partial = value.slice(context.start, selectionStart);
    the("hint").textContent = hintFor(context) || this.#usualHint;
    const options = matching(optionsFor(context), partial);
    const isComplete = options.length === 1 && options[0].shown === partial;
    const isOffered = isAsked || partial || ["operator", "value", "list"].includes(context.due);
    if (!options.length || isComplete || !isOffered) return this.close();
    this.#start = context.start;
    this.#show(options);
    // Enter does not replace a complete word.
    if (partial && options[0].shown !== partial) this.#choose(0);
  }

  /** Update the suggestions when values have arrived, unless the user has dismissed the list. */
  offerAgain() {
    if (this.#isDismissed) return;
    const chosen = this.#options[this.#chosen]?.shown;
    this.offer(this.#isAsked);
    const place = this.#options.findIndex(({ shown }) => shown === chosen);
    if (place >= 0) this.#choose(place);
  }

  /** Hide the list until the user types or requests it. */
  dismiss() {
    this.close();
    this.#isDismissed = true;
  }

  /** Hide the list. */
  close() {
    this.#options = [];
    this.#chosen = -1;
    this.#list.hidden = true;
    this.#list.replaceChildren();
    this.#box.setAttribute("aria-expanded", "false");
    this.#box.removeAttribute("aria-activedescendant");
    the("count").textContent = "";
  }

  #show(options) {
    this.#options = options;
    this.#chosen = -1;
    this.#list.replaceChildren(
      ...options.map(({ shown, about }, place) =>
        made("li", { id: `option-${place}`, role: "option", "aria-selected": "false" }, made("b", {}, shown), made("span", {}, about)),
      ),
    );
    this.#list.hidden = false;
    this.#list.scrollTop = 0;
    this.#box.setAttribute("aria-expanded", "true");
    this.#box.removeAttribute("aria-activedescendant");
    the("count").textContent = counted(options.length, "suggestion");
  }

  #choose(place) {
    this.#list.children[this.#chosen]?.setAttribute("aria-selected", "false");
    this.#chosen = place;
    const chosen = this.#list.children[place];
    chosen.setAttribute("aria-selected", "true");
    chosen.scrollIntoView({ block: "nearest" });
    this.#box.setAttribute("aria-activedescendant", chosen.id);
  }

  /** Replace the current word with a suggestion. */
  #take(place) {
    const { text, back = 0 } = this.#options[place];
    const box = this.#box;
    let end = box.selectionStart;
    // Also replace the rest of the word after the caret, and the space after it.
    if (end > this.#start) end += box.value.slice(end).match(/^[\w.-]*["']?/)[0].length;
    if (box.value[end] === " ") end += 1;
    box.setRangeText(text, this.#start, end, "end");
    const caret = box.selectionStart - back;
    box.setSelectionRange(caret, caret);
    this.close();
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }

  #pressed(event) {
    if (event.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const isOpen = !this.#list.hidden;
    if (event.key === " " && event.ctrlKey) {
      this.offer(true);
    } else if (!isOpen && event.key === "ArrowDown" && this.#isOnLastLine) {
      this.offer(true);
      if (this.#options.length && this.#chosen < 0) this.#choose(0);
    } else if (isOpen && step) {
      const count = this.#options.length;
      this.#choose(this.#chosen < 0 && step < 0 ? count - 1 : (this.#chosen + step + count) % count);
    } else if (event.key === "Escape") {
      this.dismiss();
      if (!isOpen) return;
    } else if (this.#chosen >= 0 && (event.key === "Tab" || event.key === "Enter") && !event.shiftKey) {
      this.#take(this.#chosen);
    } else {
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
  }

  get #isOnLastLine() {
    return !this.#box.value.slice(this.#box.selectionEnd).includes("\n");
  }
}
