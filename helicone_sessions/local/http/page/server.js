
// Sends requests to the server, and explains its errors together with the next step.

/** An error of the server or of the user. Its message is written for the user. */
class Refused extends Error {
  /** Whether a different key may solve the problem. */
  isKey = false;
}

// Requests are sent relative to the URL of the page, so that they also work behind a proxy with a path prefix.
const BASE = new URL(".", location.href);

const access = {
  key: "",
  /** Whether the server supports grid requests; null before its first response. */
  offersGrid: null,
};

const NO_KEY = "Enter the key first. The server printed it when it started.";

/** Send a body to the server, and return the decoded response. */
async function post(path, body, signal) {
  const { key } = access;
  if (!key) throw ofKey(NO_KEY);
  if (!/^[!-~]+$/.test(key)) throw ofKey("A key has no spaces and no letters beyond ASCII. Copy it again.");
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
    throw new Refused("The server does not respond. Check that it is running, and run the query again. Your input is kept.");
  }
  const answer = inJson(text);
  if (path === FACTS.queryPath) access.offersGrid = response.headers.has(FACTS.gridHeader);
  if (response.ok && answer !== null && !(answer.data === null && answer.error)) return answer;
  throw refusal(response, answer, text);
}

function ofKey(message) {
  const error = new Refused(message);
  error.isKey = true;
  return error;
}

function inJson(text) {
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
  const { status } = response;
  if (status === 401 || (status === 400 && answer === null)) {
    return ofKey(
      "This is not the server's key. The server prints its key when it starts, unless the key comes from " +
        "HELICONE_SESSIONS_SERVER_KEY. A generated key changes with every start.",
    );
  }
  if (status === 429) return new Refused(`The rate limit is reached. Try again ${later}.`);
  if (status === 503 && wait !== null) return new Refused(`The server is busy: ${said}. Try again ${later}.`);
  if (status === 503) return new Refused(`The server cannot respond: ${said}. Try again when it is running.`);
  if (status === 500 && answer?.trace) {
    return new Refused(`The server failed. Its log has the details under trace ${answer.trace}.`);
  }
  if (status === 500 && answer) return new Refused(`The query failed: ${said}`);
  if (status === 413) return new Refused(`The filter is too long: ${said}. Make it shorter.`);
  return new Refused(`The server refused the query (status ${status}): ${said}`);
}
