import { distance } from 'fastest-levenshtein';
import { oneOf } from './errors';

/** The one of `names` that a mistyped name was most likely meant to be; undefined where none is near. */
export function nearest(name: string, names: Iterable<string>): string | undefined {
  let best: string | undefined;
  let least = Math.max(2, Math.floor(name.length / 3)) + 1; // a third of the letters may be wrong, and two that changed places
  for (const candidate of names) {
    const edits = distance(name.toLowerCase(), candidate.toLowerCase());
    if (edits < least) [best, least] = [candidate, edits];
  }
  return best;
}

/** Names beyond this many are no help to read where one is meant, and beyond that many none. */
const [LISTED, MOST] = [12, 40];

/** What follows "Unknown …", to the end of the sentence: what is allowed, as far as it can be read, and the name that was probably meant. */
export function allowedNames(name: string, names: readonly string[]): string {
  const meant = nearest(name, names);
  const question = meant === undefined ? '' : `did you mean '${meant}'?`;
  if (meant !== undefined && names.length > LISTED) return question;
  const more = names.length - MOST;
  const all = more > 0 ? `'${names.slice(0, MOST).join("', '")}' and ${more} more` : oneOf(names);
  return `allowed are ${all}${question ? `; ${question}` : '.'}`;
}
