import { useState } from "preact/hooks";

import { token } from "../preferences";
import { link } from "../state";

/** Asks for the token. It goes into a header of requests to this agent, never into an address. */
export function TokenForm() {
  const [text, setText] = useState("");
  const wrong = token.value !== "";
  return (
    <main class="gate">
      <form
        class="card"
        onSubmit={(event) => {
          event.preventDefault();
          link.value = { state: "connecting" };
          token.value = text.trim();
        }}
      >
        <img src="/icon.svg" alt="" width="40" height="40" />
        <h1>Headrace</h1>
        <label for="token">Token, from the file that the agent’s --http-token-file names</label>
        <input
          id="token"
          type="password"
          autocomplete="off"
          value={text}
          onInput={(event) => {
            setText(event.currentTarget.value);
          }}
        />
        {wrong && (
          <p class="notice bad" role="alert">
            The agent does not take this token.
          </p>
        )}
        <button type="submit">Open</button>
      </form>
    </main>
  );
}
