/** Longest event that is taken, in characters: a server that sends more is none of ours. */
const LONGEST = 32 * 1024 * 1024;

/**
 * Parser of server-sent events (WHATWG HTML, 9.2.6) for a stream that comes in pieces.
 *
 * The browser's own EventSource cannot send a token, so the stream is read with fetch.
 */
export class EventParser {
  #rest = "";

  /** Adds a piece of the stream; gives the data of every event that is complete now. */
  add(text: string): string[] {
    this.#rest += text;
    const events = this.#rest.split("\n\n");
    this.#rest = events.pop() ?? "";
    if (this.#rest.length > LONGEST) throw new Error("the server sends an event without end");
    return events.map(data).filter((event) => event !== "");
  }
}

function data(event: string): string {
  return event
    .split("\n")
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice(line.startsWith("data: ") ? 6 : 5))
    .join("\n");
}
