/** A mistake of the user's: one sentence that names what, which value, and what is allowed. Commands print it and exit with 2. */
export class UserError extends Error {
  override name = 'UserError';
}

/** Something went wrong through no mistake of the user's, and one sentence says it all: commands print it and exit with 1. */
export class Failure extends Error {
  override name = 'Failure';
}

/** `'a', 'b' or 'c'`, for error messages that list what is allowed. */
export function oneOf(names: readonly string[]): string {
  const quoted = names.map(name => `'${name}'`);
  return quoted.length < 2 ? quoted.join('') : `${quoted.slice(0, -1).join(', ')} or ${quoted[quoted.length - 1]}`;
}
