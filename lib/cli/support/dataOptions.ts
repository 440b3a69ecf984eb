import { type Command, InvalidArgumentError } from 'commander';
import type { z } from 'zod';
import { positiveInteger } from '../../util/options';

/** The options of every command that opens a dataset; commander names their values as `DataOptions` does. */
export function withDataOptions(command: Command): Command {
  return command
    .option(
      '--flowers102-dir <folder>',
      'with 102flowers.tgz, imagelabels.mat and setid.mat, instead of downloading them',
    )
    .option('--cache-dir <folder>', 'for decoded images (default: datasets/cache)')
    .option('--side <pixels>', 'shorter side at which decoded images are kept (default: 256)', wholeNumber)
    .option('--strict', 'stop at an image that cannot be decoded');
}

/** For commander: an argument that a schema reads. */
export function checked<T>(schema: z.ZodType<T>): (text: string) => T {
  return text => {
    const { data, error } = schema.safeParse(text);
    if (error) throw new InvalidArgumentError(`${error.issues[0]!.message.replace(/^e/, 'E')}.`);
    return data as T;
  };
}

export const wholeNumber = checked(positiveInteger);
