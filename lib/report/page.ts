import { INK } from '../charts/style';
import { escapeHtml } from '../util/html';

/** Pages that need nothing but themselves: no network, no file beside them, light or dark as the reader has it. */

/** Text in which `backticks` stand for code. */
export function prose(text: string): string {
  return text
    .split('`')
    .map((part, i) => (i % 2 === 1 ? `<code>${escapeHtml(part)}</code>` : escapeHtml(part)))
    .join('');
}

export interface Page {
  title: string;
  /** HTML. */
  body: string;
  /** HTML of the head, beside the style that all pages share. */
  head?: string;
  /** The scripts that its policy lets run; none without it. */
  scripts?: 'inline';
  /** A Content-Security-Policy in place of that: for a page that is served, with files beside it. */
  policy?: string;
}

/** A page as HTML. Its policy forbids whatever a mistake might ask of the network. */
export function page({
  title,
  body,
  head = '',
  scripts,
  policy = `default-src 'none'; img-src data:; style-src 'unsafe-inline'${scripts ? "; script-src 'unsafe-inline'" : ''}`,
}: Page): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)} · EdgeViT Lab</title>
<style>${STYLE}</style>
${head}<main>
${body}
</main>
</html>
`;
}

const STYLE = `
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 25%, transparent); --quiet: color-mix(in srgb, currentColor 70%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 64rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: 1.5rem 0; }
table { border-collapse: collapse; font-size: .9rem; white-space: nowrap; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid var(--line); }
th.number, td.number { text-align: right; }
svg [fill="${INK}"] { fill: currentColor; } svg [stroke="${INK}"] { stroke: currentColor; }
pre, code { font: .85rem ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(16rem, 100%), 1fr)); gap: 0 2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; font-size: .85rem; } dd { margin: 0; overflow-wrap: anywhere; }
`;

/** Names and values, both as text. */
export function list(entries: Record<string, string>): string {
  return `<dl>${Object.entries(entries)
    .map(([key, value]) => `<dt>${escapeHtml(key)}<dd>${escapeHtml(value)}`)
    .join('')}</dl>`;
}
