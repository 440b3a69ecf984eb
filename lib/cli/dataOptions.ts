import { type Command, InvalidArgumentError } from 'commander';

/** The options of every command that opens a dataset; commander names their values as `DataOptions` does. */
export function withDataOptions(command: Command): Command {
  return command
    .option(
      '--flowers102-dir <folder>',
      'with 102flowers.tgz, imagelabels.mat and setid.mat, instead of downloading them',
    )
    .option('--cache-dir <folder>', 'for decoded pictures (default: datasets/cache)')
    .option('--side <pixels>', 'shorter side at which decoded pictures are kept (default: 256)', wholeNumber)
    .option('--strict', 'stop at a picture that cannot be decoded');
}

/** For commander: a whole number from 1 on. */
export function wholeNumber(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('A whole number from 1 on is expected.');
  return Number(text);
}
