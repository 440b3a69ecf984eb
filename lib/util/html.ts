import { printable } from './text';

/** Text for HTML, in elements and in quoted attributes. */
export function escapeHtml(text: string): string {
  return printable(text).replace(/[&<>"]/g, character => `&#${character.charCodeAt(0)};`);
}
