import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { UserError } from '../../util/errors';
import { ROOT } from '../../util/root';
import { counted } from '../../util/text';
import type { Findings, Named, Split } from '../dataset';
import type { Decoding } from '../decodings';
import { decode, decoder } from './decode';
import {
  type BuildOptions,
  buildShards,
  contentsHash,
  digestContents,
  isListed,
  openShards,
  type Shards,
  type SourceImage,
} from './shards';
import { DEFAULT_SIDE } from './side';

/** The project's folder of downloads and caches. */
export const DATASETS = join(ROOT, 'datasets');

export const REPORT = (line: string): void => console.error(line);

export interface CacheOptions {
  /** Where decoded images are kept (default: datasets/cache). */
  cacheDir?: string;
  /** Shorter side, in pixels, at which images are kept; smaller ones stay as they are (default 256). */
  side?: number;
  /** How files become RGB (default: `sharp`). */
  decode?: Decoding;
  /** Stop at an image that can't be decoded without a warning, and at one that is in two splits or classes. */
  strict?: boolean;
  /** Hears, in lines, what is skipped and what takes time (default: stderr). */
  report?: (line: string) => void;
}

export interface ShardSource {
  /** Of the dataset: it begins the folder's name. */
  name: string;
  splits: readonly string[];
  numClasses: number;
  /** Files that can be read as often as needed, or an archive that is known by a digest of its own and read once. */
  images:
    | readonly SourceImage[]
    | { contents: string; open(): Promise<{ total: number; images: AsyncIterable<SourceImage> }> };
  /** Files and folders that the source passed over, by reason. */
  ignored?: Readonly<Record<string, number>>;
  /** Files that the source could not even list. */
  unreadable?: readonly Named[];
  /** Which of the images an earlier version of the lab would have found: where it cached just these, it is said that there are more now. */
  foundBefore?(image: SourceImage): boolean;
  options: CacheOptions;
}

export interface LoadedShards {
  shards: Shards;
  fingerprint: string;
  skipped: Named[];
  findings: Findings;
}

const digest = (value: object): string => createHash('sha256').update(JSON.stringify(value)).digest('hex');

/** The decoded images of a dataset, from the cache or decoded now. Says what was left out and what is odd. Throws UserError. */
export async function loadShards(source: ShardSource): Promise<LoadedShards> {
  const { name, splits, numClasses, images, ignored = {}, unreadable = [], options } = source;
  const { cacheDir, side = DEFAULT_SIDE, decode: decoding, strict = false, report = REPORT } = options;
  const cache = resolve(cacheDir ?? join(DATASETS, 'cache'));
  const keyOf = (contents: string): string => digest({ contents, side, decoder: decoder(decoding) });
  const nameOf = (contents: string): string => `${name}-${keyOf(contents).slice(0, 16)}`;
  const open = (contents: string): Promise<Shards | undefined> => openShards(join(cache, nameOf(contents)), numClasses);
  const build = (all: Iterable<SourceImage> | AsyncIterable<SourceImage>, total: number, rest: Partial<BuildOptions>) =>
    buildShards(all, {
      cache,
      splits,
      numClasses,
      decode: bytes => decode(bytes, side, decoding),
      nameOf,
      progress(done) {
        if (done === total || done % 1000 === 0) report(`decoded ${done} of ${counted(total, 'image')}`);
      },
      ...rest,
    });

  let shards: Shards | undefined;
  if ('contents' in images) {
    shards = await open(images.contents);
    if (!shards) {
      const { total, images: all } = await images.open();
      shards = await build(all, total, { nameOf: () => nameOf(images.contents) });
    }
  } else {
    const listing = digest(images.map(({ name, key = name, split, label, size }) => [key, split, label, size]));
    if (isListed(cache, listing)) shards = await open(await digestContents(images));
    if (!shards) {
      const before = contentsHash();
      let found = 0;
      shards = await build(images, images.length, {
        listing,
        read(image, bytes) {
          if (!source.foundBefore?.(image)) return;
          before.add(image, bytes);
          found++;
        },
      });
      if (found < images.length && existsSync(join(cache, nameOf(before.digest()))))
        report(
          `${counted(images.length, 'image')} are read now, where a copy in the cache holds ${found}: those in folders within classes, and of other kinds than JPEG, PNG and WebP by name, are no longer left out. The fingerprint is another.`,
        );
    }
  }
  const contents = 'contents' in images ? images.contents : shards.contents;
  const skipped = [...unreadable, ...shards.unreadable, ...shards.skipped];
  const findings: Findings = { warned: shards.warned, ignored, copies: shards.copies };
  if (strict) refuse(skipped, findings);
  tell(skipped, findings, report);
  return {
    shards,
    fingerprint: fingerprintOf(shards, { contents, side, decoder: decoder(decoding) }),
    skipped,
    findings,
  };
}

/**
 * Equal fingerprints give equal batches: names, bytes, side and decoder are all that they depend on, and which files were decoded. Where
 * that is all of them, and without a warning, they are left out of the digest, as before there were any.
 */
function fingerprintOf({ skipped, warned }: Shards, inputs: object): string {
  const names = (of: readonly Named[]): string[] => of.map(({ name }) => name);
  return digest(
    skipped.length + warned.length === 0 ? inputs : { ...inputs, skipped: names(skipped), warned: names(warned) },
  );
}

const describe = ({ name, reason }: Named): string => `${name} (${reason})`;

/** In how many splits or classes the copies of images are; undefined where there are none. */
function leaks({ acrossSplits, acrossClasses, examples }: Findings['copies']): string | undefined {
  if (acrossSplits + acrossClasses === 0) return undefined;
  const found = [
    ...(acrossSplits > 0 ? [`${counted(acrossSplits, 'file')} in another split`] : []),
    ...(acrossClasses > 0 ? [`${counted(acrossClasses, 'file')} in another class`] : []),
  ].join(' and ');
  return `${found} than a file of equal bytes, such as ${examples.map(pair => pair.join(' = ')).join(', ')}`;
}

/** What --strict doesn't allow. Throws a UserError that names the first and says how many there are. */
function refuse(skipped: readonly Named[], { warned, copies }: Findings): void {
  const others = (list: readonly Named[]): string => (list.length > 1 ? `, and ${list.length - 1} more` : '');
  if (skipped.length > 0)
    throw new UserError(
      `--strict leaves out no image, but this one can't be decoded: ${describe(skipped[0])}${others(skipped)}.`,
    );
  if (warned.length > 0)
    throw new UserError(
      `--strict takes no image that its decoder finds fault with: ${describe(warned[0])}${others(warned)}.`,
    );
  const leaked = leaks(copies);
  if (leaked !== undefined) throw new UserError(`--strict allows no copies across splits or classes: ${leaked}.`);
}

/** Files of one sort that are named one by one; beyond them the count has to do. */
const NAMED = 10;

function tell(skipped: readonly Named[], { warned, ignored, copies }: Findings, report: (line: string) => void): void {
  const list = (verb: string, all: readonly Named[]): void => {
    for (const image of all.slice(0, NAMED)) report(`${verb} ${describe(image)}`);
    if (all.length > NAMED) report(`${verb} ${all.length - NAMED} more`);
  };
  const reasons = Object.entries(ignored);
  if (reasons.length > 0)
    report(
      `ignored ${reasons
        .slice(0, NAMED)
        .map(([reason, count]) => `${count} ${reason}`)
        .join(', ')}${reasons.length > NAMED ? ', …' : ''}`,
    );
  const leaked = leaks(copies);
  if (leaked !== undefined)
    report(`warning: ${leaked}: what is measured on copies means little (--strict refuses them)`);
  list('decoded with a warning:', warned);
  if (warned.length > 0) report(`${counted(warned.length, 'image')} decoded with a warning (--strict refuses them)`);
  list('skipped', skipped);
  if (skipped.length > 0)
    report(`skipped ${counted(skipped.length, 'image')} that can't be read or decoded (--strict refuses them)`);
}

/** Warns of classes without an image in a split. Throws a UserError where a split has none at all. */
export function checkClasses(
  splits: Readonly<Record<string, Split>>,
  classes: readonly string[],
  report: (line: string) => void,
): void {
  for (const [name, split] of Object.entries(splits)) {
    if (split.length === 0) throw new UserError(`No image in '${name}' could be decoded.`);
    const present = new Set(split.labels);
    const lost = classes.filter((_, label) => !present.has(label));
    if (lost.length === 0) continue;
    const named = `${lost
      .slice(0, NAMED)
      .map(each => `'${each}'`)
      .join(', ')}${lost.length > NAMED ? ', …' : ''}`;
    report(
      `warning: ${counted(lost.length, 'class', 'classes')} without an image in '${name}': ${named}: ${name === 'train' ? 'nothing can learn them' : 'nothing is measured on them'}`,
    );
  }
}
