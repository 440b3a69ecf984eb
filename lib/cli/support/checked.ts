import { InvalidArgumentError } from 'commander';
import type { z } from 'zod';

/** For commander: an argument that a schema reads. */
export function checked<T>(schema: z.ZodType<T>): (text: string) => T {
  return text => {
    const { data, error } = schema.safeParse(text);
    if (error) throw new InvalidArgumentError(`${error.issues[0]!.message.replace(/^e/, 'E')}.`);
    return data as T;
  };
}
