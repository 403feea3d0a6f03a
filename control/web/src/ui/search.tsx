import { search } from "../preferences";

interface SearchProps {
  hint: string;
  label: string;
  problem?: string | null | undefined;
}

/** Search of the view in front; the agent filters, so it reaches everything, not just what is shown. */
export function Search({ hint, label, problem }: SearchProps) {
  return (
    <div class="search">
      <input
        type="search"
        aria-label={label}
        aria-invalid={problem !== null && problem !== undefined}
        placeholder={`${hint}   ( / )`}
        value={search.value}
        spellcheck={false}
        autocomplete="off"
        maxLength={256}
        onInput={(event) => {
          search.value = event.currentTarget.value;
        }}
      />
    </div>
  );
}
