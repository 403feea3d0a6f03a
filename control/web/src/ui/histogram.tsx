import { percent, scaled } from "../format";

interface HistogramProps {
  label: string;
  classes: string[];
  counts: number[];
}

/** Columns, each a share of the whole. Classes beyond the last that holds something are left out. */
export function Histogram({ label, classes, counts }: HistogramProps) {
  const sum = counts.reduce((total, count) => total + count, 0);
  const highest = Math.max(...counts, 1);
  if (sum === 0) return <p class="empty small">Nothing in the last minute.</p>;
  const last = counts.findLastIndex((count) => count > 0);
  const first = counts.findIndex((count) => count > 0);
  const shown = counts.slice(0, last + 1).map((count, i) => ({ count, name: classes[i] ?? "" }));
  const from = Math.max(Math.min(first, last - 5), 0);
  // Every second name has room for two.
  const step = last + 1 - from > 8 ? 2 : 1;
  return (
    <ol class="histogram" aria-label={label}>
      {shown.slice(from).map(({ count, name }, i) => (
        <li key={name} title={`${name}: ${scaled(count)} (${percent(count / sum)})`}>
          <span class="column">
            <i style={{ height: `${(count / highest) * 100}%` }} />
          </span>
          <span class="class">{i % step === 0 ? name.replace("< ", "") : "\u00a0"}</span>
        </li>
      ))}
    </ol>
  );
}
