import type { ComponentType } from "preact";

import { type View, view } from "./preferences";
import { link } from "./state";
import { Header } from "./ui/header";
import { Notices } from "./ui/notices";
import { TokenForm } from "./ui/token";
import { Connections } from "./views/connections";
import { Overview } from "./views/overview";
import { Ports } from "./views/ports";
import { Services } from "./views/services";
import { Timeline } from "./views/timeline";
import { Topology } from "./views/topology";

const PAGES: Record<View, ComponentType> = {
  overview: Overview,
  ports: Ports,
  connections: Connections,
  services: Services,
  topology: Topology,
  timeline: Timeline,
};

export function App() {
  const Page = PAGES[view.value];
  if (link.value.state === "denied") return <TokenForm />;
  return (
    <>
      <a class="skip" href="#main" onClick={toMain}>
        Skip to content
      </a>
      <Header />
      <main id="main" tabIndex={-1}>
        <Notices />
        <Page />
      </main>
    </>
  );
}

function toMain(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
