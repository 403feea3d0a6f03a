import type { ComponentChildren } from "preact";

interface CardProps {
  title: string;
  note?: ComponentChildren;
  class?: string;
  children: ComponentChildren;
}

export function Card({ title, note, class: extra = "", children }: CardProps) {
  return (
    <section class={`card ${extra}`} aria-label={title}>
      <div class="head">
        <h2>{title}</h2>
        {note !== undefined && <span class="dim">{note}</span>}
      </div>
      {children}
    </section>
  );
}

/** Nothing to show, and why. */
export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}
