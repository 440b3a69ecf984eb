import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { extract } from 'tar-stream';
import { z } from 'zod';
import { UserError } from '../../util/errors';
import { parseOptions } from '../../util/options';
import { type CacheOptions, DATASETS, loadShards } from '../cache/cache';
import type { RawPicture } from '../cache/shards';
import type { Dataset } from '../dataset';
import { download, md5 } from './download';
import { FLOWER_NAMES } from './flowers102Names';
import { type MatArray, readMat } from './mat';

/** Where the files come from, and what they are known by. */
export interface Flowers102Source {
  /** The folder on the web, with a slash at its end. */
  url: string;
  /** File → md5. */
  files: { '102flowers.tgz': string; 'imagelabels.mat': string; 'setid.mat': string };
}

type FileName = keyof Flowers102Source['files'];

/** The authors' own site; the sums are those that torchvision and Paddle check. */
export const OXFORD: Flowers102Source = {
  url: 'https://www.robots.ox.ac.uk/~vgg/data/flowers/102/',
  files: {
    '102flowers.tgz': '52808999861908f626f3c1f4e79d11fa',
    'imagelabels.mat': 'e0620be6f572b9609742df49c70aed4d',
    'setid.mat': 'a5357ecc9cb78c4bef273ce3793fc85c',
  },
};

/**
 * Which of the official lists is trained on and which tested. `official`: 1,020 and 6,149 images; `paddle`: 6,149 and 1,020,
 * because Paddle's loader, and so the article, exchanges them.
 */
const SPLITS = {
  official: { train: 'trnid', val: 'valid', test: 'tstid' },
  paddle: { train: 'tstid', val: 'valid', test: 'trnid' },
} as const;

const LISTS = ['trnid', 'valid', 'tstid'] as const;

const schema = z.strictObject({ split: z.enum(['official', 'paddle']).default('official') });

export interface Flowers102Options extends CacheOptions {
  /** A folder that has the three files already; without it they are downloaded. */
  flowers102Dir?: string;
  /** Where downloads are kept (default: datasets/flowers102). */
  downloadDir?: string;
  source?: Flowers102Source;
}

/** Downloads a file that isn't there, and checks one that is. */
async function obtain(path: string, { url, files }: Flowers102Source): Promise<string> {
  const name = basename(path) as FileName;
  if (!existsSync(path)) {
    await download(url + name, path, { md5: files[name] });
    return path;
  }
  const sum = await md5(path);
  if (sum !== files[name])
    throw new UserError(`${path} has md5 ${sum} instead of ${files[name]}: it is cut off, or another file.`);
  return path;
}

/** Says of each image, by its number, in which list it is and what it shows. */
function readLists(labelsFile: string, setsFile: string): Map<number, { split: string; label: number }> {
  const array = (arrays: Record<string, MatArray>, name: string, file: string): Float64Array => {
    if (!arrays[name]) throw new UserError(`${file} lacks the array '${name}'.`);
    return arrays[name].data;
  };
  const labels = array(readMat(readFileSync(labelsFile), labelsFile), 'labels', labelsFile);
  const sets = readMat(readFileSync(setsFile), setsFile);
  const entries = new Map<number, { split: string; label: number }>();
  for (const split of LISTS) {
    for (const id of array(sets, split, setsFile)) {
      const label = labels[id - 1] - 1; // both count from 1
      if (!(label in FLOWER_NAMES))
        throw new UserError(
          `${labelsFile} gives image ${id} the label ${label + 1}, but 1 to ${FLOWER_NAMES.length} are expected.`,
        );
      if (entries.has(id)) throw new UserError(`${setsFile} has image ${id} in two lists.`);
      entries.set(id, { split, label });
    }
  }
  return entries;
}

/** Reads the images out of the archive as it is unpacked, without writing them anywhere. */
async function* readArchive(file: string, entries: ReturnType<typeof readLists>): AsyncGenerator<RawPicture> {
  const missing = new Set(entries.keys());
  const archive = extract();
  pipeline(createReadStream(file), createGunzip(), archive, () => {}); // its errors arrive in the loop
  try {
    for await (const entry of archive) {
      const { name } = entry.header;
      const id = Number(/^image_(\d+)\.jpg$/.exec(basename(name))?.[1]);
      const known = entries.get(id);
      if (!known || !missing.delete(id)) {
        entry.resume();
        continue;
      }
      const chunks: Uint8Array[] = [];
      for await (const chunk of entry) chunks.push(chunk as Uint8Array);
      yield { name, ...known, bytes: Buffer.concat(chunks) };
    }
  } catch (error) {
    throw new UserError(`${file} can't be unpacked (${(error as Error).message}).`);
  }
  if (missing.size > 0)
    throw new UserError(`${file} lacks ${missing.size} images, among them number ${[...missing][0]}.`);
}

/**
 * Oxford Flowers-102 (Nilsback and Zisserman 2008): 8,189 photographs of 102 species. Downloads what is missing, checks it, and
 * decodes it once; after that the cache is all that is needed. `spec` chooses the split. Throws UserError.
 */
export async function flowers102(spec: Record<string, string>, options: Flowers102Options): Promise<Dataset> {
  const { flowers102Dir, downloadDir = join(DATASETS, 'flowers102'), source = OXFORD } = options;
  const { split } = parseOptions(schema, spec, 'flowers102');
  const userFolder = flowers102Dir === undefined ? undefined : resolve(flowers102Dir);
  const names = Object.keys(source.files) as FileName[];
  const lacking = userFolder && names.find(name => !existsSync(join(userFolder, name)));
  if (lacking)
    throw new UserError(`${userFolder} has no ${lacking}: --flowers102-dir needs a folder with ${names.join(', ')}.`);

  const { shards, fingerprint } = await loadShards({
    name: 'flowers102',
    contents: names.map(name => source.files[name]).join(),
    splits: LISTS,
    numClasses: FLOWER_NAMES.length,
    async open() {
      const file = (name: FileName): Promise<string> => obtain(join(userFolder ?? downloadDir, name), source);
      const entries = readLists(await file('imagelabels.mat'), await file('setid.mat'));
      const archive = await file('102flowers.tgz');
      return { total: entries.size, pictures: readArchive(archive, entries) };
    },
    options,
  });
  const [train, val, test] = (['train', 'val', 'test'] as const).map(role => shards.splits[SPLITS[split][role]]);
  return {
    name: split === 'official' ? 'flowers102' : `flowers102-${split}`,
    classes: FLOWER_NAMES,
    train,
    val,
    test,
    description: `Oxford Flowers-102, ${split} split: ${train.length} + ${test.length} photographs of ${FLOWER_NAMES.length} species`,
    fingerprint: createHash('sha256').update(`${fingerprint} ${split}`).digest('hex'),
    skipped: shards.skipped,
  };
}
