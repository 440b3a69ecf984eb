import { type InspectOptions, inspect } from 'node:util';

/** As `util.inspect`, but of anything: of a proxy that throws, or of an object whose own description fails. */
export function describe(value: unknown, options: InspectOptions = {}): string {
  for (const attempt of [
    options,
    { ...options, customInspect: false, getters: false },
    { customInspect: false, depth: 0 },
  ]) {
    try {
      return inspect(value, attempt);
    } catch {
      // the next one asks less of the value
    }
  }
  try {
    return Object.prototype.toString.call(value);
  } catch {
    return `[${typeof value} that cannot be described]`;
  }
}
