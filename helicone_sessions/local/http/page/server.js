
// What the server is asked, and its refusals in words with what to do about them.

/** An answer that says no, in words for the person before the page. */
class Refused extends Error {}

// Below the page's own address, so that it also works behind a proxy that serves it elsewhere.
const BASE = new URL(".", location.href);

/** Ask the server; what it answers, decoded. */
async function asked(path, body, signal) {
  const key = the("key").value.trim();
  if (!key) throw new Refused("Give the key first: the server printed it when it started.");
  if (!/^[!-~]+$/.test(key)) throw new Refused("This is no key: keys have no spaces and no letters beyond ASCII.");
  let response, text;
  try {
    response = await fetch(new URL(path, BASE), {
      method: "POST",
      headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(
      "The server does not answer: it was stopped, or cannot be reached from here. " +
        "Once it runs again, ask again; what is written here stays.",
    );
  }
  const answer = decoded(text);
  if (response.ok && answer !== null && !(answer.data === null && answer.error)) return answer;
  throw new Refused(refusal(response, answer, text));
}

function decoded(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

function refusal(response, answer, text) {
  const said = String(answer?.error ?? text).slice(0, 2000);
  const wait = response.headers.get("Retry-After");
  const later = wait === null ? "in a minute" : wait === "1" ? "in a second" : `in ${wait} seconds`;
  const status = response.status;
  if (status === 401 || (status === 400 && answer === null)) {
    return (
      "This is not the server's key. Look where it was started: it printed the key, or it was given one in " +
      "HELICONE_SESSIONS_SERVER_KEY. A key that it made up is a new one at each start."
    );
  }
  if (status === 429) return `The rate limit is used up: try again ${later}.`;
  if (status === 503 && wait !== null) return `The server is busy (${said}): ask again ${later}.`;
  if (status === 503) return `The server did not get to an answer: ${said}. Once it runs again, ask again.`;
  if (status === 500 && answer?.trace) return `The server failed. Its log says more, under trace ${answer.trace}.`;
  if (status === 500 && answer) return `The query failed: ${said}`;
  if (status === 413) return `That is too long: ${said}. Make the filter shorter.`;
  return `The server refused it (status ${status}): ${said}`;
}
