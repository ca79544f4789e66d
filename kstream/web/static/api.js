// Talking to the instance that served this page, with the token in a header: an address would end up in histories.

const KEPT = "kstream-token";

function decoded(words) {
  try {
    return decodeURIComponent(words);
  } catch {
    return words; // a token with a % of its own
  }
}

export class Refused extends Error {}

export class Api {
  constructor() {
    const given = location.hash.match(/^#token=(.+)$/)?.[1];
    if (given) {
      sessionStorage.setItem(KEPT, decoded(given));
      history.replaceState(null, "", location.pathname + location.search);
    }
    this.token = sessionStorage.getItem(KEPT);
  }

  setToken(token) {
    this.token = token;
    if (token) sessionStorage.setItem(KEPT, token);
    else sessionStorage.removeItem(KEPT);
  }

  async request(path, options = {}) {
    const headers = { ...options.headers };
    // a header holds bytes: those of the token in UTF-8, as other clients send it
    if (this.token) headers.Authorization = `Bearer ${String.fromCharCode(...new TextEncoder().encode(this.token))}`;
    const answer = await fetch(path, { ...options, headers, cache: "no-store" });
    if (answer.status === 401) throw new Refused("The token is not the right one.");
    if (!answer.ok) {
      const said = await answer.json().catch(() => ({}));
      throw new Error(said.error ?? `${path} answered ${answer.status}`);
    }
    return answer;
  }

  async get(path) {
    return (await this.request(path)).json();
  }

  async post(path, body) {
    const options = { method: "POST" };
    if (body !== undefined) {
      options.body = JSON.stringify(body);
      options.headers = { "Content-Type": "application/json" };
    }
    return (await this.request(path, options)).json();
  }

  /** Calls `heard(event, data)` for each event until the stream ends; an end is an error like any other. */
  async events(signal, heard) {
    const answer = await this.request("/api/events", { signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("the stream of events ended");
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s)));
        if (fields.event) heard(fields.event, JSON.parse(fields.data));
      }
    }
  }
}
