/** U+FFFF is in no text. */
const START = '\uffff';
const TOKENS = /"(?:[^"\\]|\\.)*"|-?(?:NaN|Infinity|\d[\d.eE+-]*)/g;
const KEPT = new RegExp(`"${START}([^"]*)"`, 'g');

/**
 * JSON as Python writes it, with numbers that JavaScript would change (integers beyond 2^53, `1.0`) or that JSON does not have (NaN, Infinity)
 * as marked texts, so that a file which is read and written again still has them, digit by digit.
 */
export function parseKeepingNumbers(text: string): unknown {
  const marked = text.replace(/^\ufeff/, '').replace(TOKENS, token => {
    const isKept = token.startsWith('"') || (Number.isFinite(Number(token)) && String(Number(token)) === token);
    return isKept ? token : `"${START}${token}"`;
  });
  return JSON.parse(marked);
}

export function stringifyKeptNumbers(value: unknown): string {
  return JSON.stringify(value, null, 1).replace(KEPT, '$1');
}

/** The same value with JavaScript's numbers for marked ones: to be compared, not to be written. */
export function plainNumbers(value: unknown): unknown {
  if (typeof value === 'string') return value.startsWith(START) ? Number(value.slice(START.length)) : value;
  if (Array.isArray(value)) return value.map(plainNumbers);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plainNumbers(each)]));
}
