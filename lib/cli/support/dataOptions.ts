import { type Command, InvalidArgumentError, Option } from 'commander';
import type { z } from 'zod';
import { DECODINGS } from '../../data/cache/decode';
import { positiveInteger } from '../../util/options';

/** The options of every command that opens a dataset; commander names their values as `DataOptions` does. */
export function withDataOptions(command: Command): Command {
  return command
    .option(
      '--flowers102-dir <folder>',
      'with imagelabels.mat, setid.mat and 102flowers.tgz or its images, instead of downloading them',
    )
    .option('--cache-dir <folder>', 'for decoded images (default: datasets/cache)')
    .option(
      '--side <pixels>',
      'shorter side at which decoded images are kept, from which crops are cut (default: 256, or 8/7 of a larger --size)',
      wholeNumber,
    )
    .addOption(
      new Option(
        '--decode <how>',
        'sharp: colours by their profiles, fast; pillow: equal to Pillow and torchvision to the byte (default: sharp)',
      ).choices(DECODINGS),
    )
    .option(
      '--strict',
      'stop at an image that cannot be decoded, at one with a warning, and at copies across splits or classes',
    );
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
