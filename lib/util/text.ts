/** Characters by which text could act on a terminal or write elsewhere than where it stands, and which SVG forbids. */
export const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}]/gu;

/** Text of any origin, as one line that can be printed, put into a page or drawn. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, '\ufffd');
}

/** The same for text of several lines. */
export function printableLines(text: string): string {
  return text.replace(UNPRINTABLE, character => (character === '\n' || character === '\t' ? character : '\ufffd'));
}

/** A sentence that quotes from a file, which may quote megabytes. */
export function shortened(text: string): string {
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}

/** `1 file`, `1,024 files`; a plural that is no singular with an s is given. */
export function counted(count: number, noun: string, plural = `${noun}s`): string {
  return `${count.toLocaleString('en-US')} ${count === 1 ? noun : plural}`;
}

const cleaned = (value: unknown): unknown => (typeof value === 'string' ? printableLines(value) : value);

/** From now on nothing that is printed acts on a terminal, whatever file, name or server a part of it came from. */
export function cleanConsole(): void {
  for (const method of ['log', 'error'] as const) {
    const print = console[method].bind(console);
    console[method] = (...values: unknown[]) =>
      print(...values.map(value => (value instanceof Error ? (value.stack ?? value.message) : value)).map(cleaned));
  }
}
