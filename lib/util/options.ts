import { z } from 'zod';
import { UserError } from './errors';

/** Checks what came from outside against a schema. Throws a UserError of one sentence that names the key, its value and what is allowed. */
export function parseOptions<T extends z.ZodType>(schema: T, value: unknown, what: string): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  if (issue!.code === 'unrecognized_keys') {
    const known = schema instanceof z.ZodObject ? `; allowed are ${Object.keys(schema.shape).join(', ')}` : '';
    throw new UserError(`${what} has no option '${issue!.keys.join("', '")}'${known}.`);
  }
  const given = issue!.path.reduce<unknown>(
    (at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key],
    value,
  );
  throw new UserError(
    `${[what, ...issue!.path].join('.')} is ${JSON.stringify(given) ?? 'missing'}: ${issue!.message.replace(/^Invalid (input|option): |^Too/, start => (start === 'Too' ? 'too' : ''))}.`,
  );
}
