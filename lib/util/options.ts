import { z } from 'zod';
import { UserError } from './errors';
import './issues';
import { allowedNames } from './suggest';

const asNumber = (value: unknown): unknown =>
  typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
const number = (allowed: string, accepts: (value: number) => boolean) =>
  z.preprocess<unknown, z.ZodType<number>, number | string>(
    asNumber,
    z.custom<number>(value => typeof value === 'number' && accepts(value), allowed),
  );

// Settings, each typed or as the text that a command line gives.
export const positiveInteger = number('expected a positive integer', value => Number.isSafeInteger(value) && value > 0);
/** How often a layer is repeated: each is built before any weights are, by whatever a file claims. */
export const depth = number(
  'expected an integer from 1 to 1000',
  value => Number.isSafeInteger(value) && value > 0 && value <= 1000,
);
/** Threads of TensorFlow, which takes any number and makes them all. */
export const threadNumber = number(
  'expected an integer from 1 to 1024',
  value => Number.isSafeInteger(value) && value >= 1 && value <= 1024,
);
/** How often something is tried again. */
export const numberOfRetries = number(
  'expected an integer from 0 to 100',
  value => Number.isSafeInteger(value) && value >= 0 && value <= 100,
);
export const oddInteger = number(
  'expected a positive odd integer',
  value => Number.isSafeInteger(value) && value > 0 && value % 2 === 1,
);
export const positive = number('expected a positive number', value => Number.isFinite(value) && value > 0);
/** A probability below 1. */
export const dropRate = number('expected at least 0 and below 1', value => value >= 0 && value < 1);
export const flag = z.preprocess<unknown, z.ZodType<boolean>, boolean | 'true' | 'false'>(
  value => (value === 'true' ? true : value === 'false' ? false : value),
  z.boolean("expected 'true' or 'false'"),
);

/** Checks what came from outside against a schema. Throws a UserError of one sentence that names the key, its value and what is allowed. */
export function parseOptions<T extends z.ZodType>(schema: T, value: unknown, what: string): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  if (issue!.code === 'unrecognized_keys') {
    const keys = schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
    const known = keys.length > 0 ? `: ${allowedNames(issue!.keys[0]!, keys)}` : '.';
    throw new UserError(`${what} has no setting '${issue!.keys.join("', '")}'${known}`);
  }
  let given = value;
  const path = issue!.path.filter(key => {
    if (typeof given === 'string') return false; // a list as text, like 1,2,x,4, is shown whole
    given = (given as Record<PropertyKey, unknown> | undefined)?.[key];
    return true;
  });
  throw new UserError(`${[what, ...path].join('.')} is ${JSON.stringify(given) ?? 'missing'}: ${issue!.message}.`);
}
