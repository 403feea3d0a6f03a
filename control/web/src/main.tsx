import { effect } from "@preact/signals";
import { render } from "preact";

import { follow } from "./api/stream";
import { App } from "./app";
import * as keys from "./keys";
import * as preferences from "./preferences";
import * as state from "./state";
import "uplot/dist/uPlot.min.css";
import "./style.css";

/** Time for somebody to go on typing before the agent is asked. */
const TYPING = 250;

preferences.start();
keys.listen();
render(<App />, document.getElementById("app") ?? document.body);
followWhatIsShown();

/** One stream at a time, asked for what the view in front shows. */
function followWhatIsShown(): void {
  effect(() => {
    const { view, search, token } = preferences;
    const shown = view.value;
    const node = state.chosenNode.value;
    const text = search.value;
    const query = () => ({
      since: state.sequence.peek(),
      node,
      flows: shown === "connections" ? text : undefined,
      services: shown === "services" ? text : undefined,
    });
    const secret = token.value;
    const controller = new AbortController();
    const timer = setTimeout(
      () => void follow(query, () => secret, { look: state.take, lost: state.lost, denied }, controller.signal),
      text === "" ? 0 : TYPING,
    );
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  });
}

function denied(): void {
  state.link.value = { state: "denied" };
}
