import { type Command, Option } from 'commander';
import { DECODINGS } from '../../data/decodings';
import { positiveInteger, threadNumber } from '../../util/options';
import { checked } from './checked';

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

export const wholeNumber = checked(positiveInteger);
/** Of TensorFlow inside an op. */
export const threadCount = checked(threadNumber);
