
// The page: its parts, joined.

let asking = null;
/** Whether the fields say another question than the one that was asked last. */
let isChanged = false;

const box = new FilterBox(questionChanged);

/** Take the key out of the address, #key=…, where nobody is to read it; whether there was one. */
function takeKey() {
  const found = location.hash.match(/^#key=(.+)$/);
  if (!found) return false;
  history.replaceState(null, "", location.pathname + location.search);
  try {
    the("key").value = decodeURIComponent(found[1]);
  } catch {
    the("key").value = found[1];
  }
  return true;
}

/** A problem, in words; without one it is gone. */
function tell(problem = "") {
  the("problem").textContent = problem;
  the("problem").hidden = !problem;
}

/** The answer is one to an earlier question, be it shown already or still waited for. */
function questionChanged() {
  isChanged = true;
  if (!the("answer").hidden) markOld();
  showQuestion();
}

/** The texts to copy say what the fields say now. */
function showQuestion() {
  const { read } = box;
  if (read === null) return showNoTexts(box.unread);
  if ("error" in read) return showNoTexts("Mend the filter first.");
  let posed;
  try {
    posed = question();
  } catch (error) {
    return showNoTexts(error.message);
  }
  const body = bodyOf(posed, read);
  showTexts(JSON.stringify(body.filter ?? "all", null, 2), curlText(body), pythonText(posed, read));
}

/** Ask the question, and show the answer or why there is none. */
async function ask() {
  asking = new AbortController();
  const { signal } = asking;
  the("ask").textContent = "Stop";
  the("progress").textContent = "asking …";
  tell();
  try {
    const read = await box.readNow();
    if (read === null) return;
    if ("error" in read) return box.focus();
    const posed = question();
    const body = bodyOf(posed, read);
    isChanged = false;
    const began = performance.now();
    const { data } = await asked(FACTS.queryPath, body, signal);
    showQuestion();
    showAnswer(data, posed, (performance.now() - began) / 1000);
    if (isChanged) markOld();
  } catch (error) {
    if (error instanceof Refused) tell(error.message);
    else if (error.name !== "AbortError") throw error;
  } finally {
    asking = null;
    the("ask").textContent = "Ask";
    the("progress").textContent = "";
  }
}

the("question").addEventListener("submit", (event) => {
  event.preventDefault();
  if (asking) asking.abort();
  else ask();
});
for (const name of ["input", "change"]) {
  the("question").addEventListener(name, ({ target }) => {
    if (target === the("filter")) return;
    showFieldsOfTime();
    tell();
    // With another key the server may read what it would not before.
    if (target === the("key")) box.readSoon();
    else questionChanged();
  });
}
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", async () => {
    the("copied").textContent = button.textContent = await copy(the(button.dataset.copies));
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}
addEventListener("hashchange", () => takeKey() && box.readSoon());

for (const size of FACTS.sizes) the("size").append(made("option", { value: size }, size));
the("zone").textContent = zone();
showFieldsOfTime();
(takeKey() ? the("filter") : the("key")).focus();
questionChanged();
