import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { extract } from 'tar-stream';
import { z } from 'zod';
import { UserError } from '../../util/errors';
import { parseOptions } from '../../util/options';
import { counted } from '../../util/text';
import { type CacheOptions, DATASETS, loadShards } from '../cache/cache';
import type { SourceImage } from '../cache/shards';
import { DEFAULT_SIDE } from '../cache/side';
import type { Dataset } from '../dataset';
import type { Source } from '../source';
import { download, md5 } from './download';
import { readImage } from './file';
import { FLOWER_NAMES } from './flowers102Names';
import { type MatArray, readMat } from './mat';
import { type ImageFile, imagesBelow, newTally } from './walk';

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
  /** A folder that has the three files already, or the images in place of their archive; without it they are downloaded. */
  flowers102Dir?: string;
  /** Where downloads are kept (default: datasets/flowers102). */
  downloadDir?: string;
  source?: Flowers102Source;
  /** Whether what is missing is downloaded (default: true); else it is an error. */
  mayDownload?: boolean;
}

/** Downloads a file that isn't there, and checks one that is. */
async function obtain(path: string, { url, files }: Flowers102Source, mayDownload: boolean): Promise<string> {
  const name = basename(path) as FileName;
  if (!existsSync(path)) {
    if (!mayDownload)
      throw new UserError(
        'Flowers-102 is not here, and is downloaded only where asked for: by --data=flowers102 (345 MB).',
      );
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

const fileNumber = (path: string): number => Number(/^image_(\d+)\.jpe?g$/i.exec(basename(path))?.[1]);

type Entries = ReturnType<typeof readLists>;

function lacks(where: string, numbers: Iterable<number>): UserError {
  const missing = [...numbers];
  return new UserError(`${where} lacks ${counted(missing.length, 'image')}, among them number ${missing[0]}.`);
}

/** Reads the images out of the archive as it is unpacked, without writing them anywhere. What is unpacked has the expected md5, or this throws at its end. */
async function* readArchive(file: string, expected: string, entries: Entries): AsyncGenerator<SourceImage> {
  const missing = new Set(entries.keys());
  const archive = extract();
  const hash = createHash('md5');
  const packed = createReadStream(file).on('data', chunk => void hash.update(chunk));
  const unpacked = pipeline(packed, createGunzip(), archive);
  unpacked.catch(() => {}); // its errors arrive in the loop
  try {
    for await (const entry of archive) {
      const { name } = entry.header;
      const id = fileNumber(name);
      const known = entries.get(id);
      if (!known || !missing.delete(id)) {
        entry.resume();
        continue;
      }
      const chunks: Uint8Array[] = [];
      for await (const chunk of entry) chunks.push(chunk as Uint8Array);
      const bytes = Buffer.concat(chunks);
      yield { name, ...known, read: async () => bytes };
    }
    await unpacked;
  } catch (error) {
    throw new UserError(`${file} can't be unpacked (${(error as Error).message}).`);
  }
  if (missing.size > 0) throw lacks(file, missing);
  if (hash.digest('hex') !== expected) throw new UserError(`${file} was altered while it was unpacked: start again.`);
}

/** The images of a folder that was unpacked, or handed round in other folders, as by Kaggle: they are known by the numbers in their names. */
function listUnpacked(root: string, entries: Entries): SourceImage[] {
  const files = new Map<number, ImageFile>();
  for (const file of imagesBelow(root, '', newTally())) {
    const id = fileNumber(file.path);
    const other = files.get(id);
    if (other && other.size !== file.size)
      throw new UserError(`${root} has two files for number ${id}, ${other.path} and ${file.path}: leave one of them.`);
    if (!other && entries.has(id)) files.set(id, file);
  }
  const missing = [...entries.keys()].filter(id => !files.has(id));
  if (missing.length > 0) throw lacks(root, missing);
  return [...entries]
    .sort(([a], [b]) => a - b)
    .map(([id, known]) => {
      const { path, size } = files.get(id)!;
      return {
        name: path,
        key: `${known.split}/${known.label}/${id}`,
        ...known,
        size,
        read: () => readImage(join(root, path)),
      };
    });
}

/** Where the user's folder has a file: in itself, or where torchvision puts it. */
const inFolder = (folder: string, name: FileName): string | undefined =>
  [join(folder, name), join(folder, 'flowers-102', name)].find(path => existsSync(path));

const ARCHIVE = '102flowers.tgz';

/**
 * Oxford Flowers-102 (Nilsback and Zisserman 2008): 8,189 photographs of 102 species. Downloads what is missing, checks it, and
 * decodes it once; after that the cache is all that is needed. A folder of the user's may have the archive or its images, unpacked.
 * `spec` chooses the split. Throws UserError.
 */
export async function flowers102(spec: Record<string, string>, options: Flowers102Options): Promise<Dataset> {
  const {
    flowers102Dir,
    downloadDir = join(DATASETS, 'flowers102'),
    source = OXFORD,
    side = DEFAULT_SIDE,
    mayDownload = true,
  } = options;
  const { split } = parseOptions(schema, spec, 'flowers102');
  const folder = flowers102Dir === undefined ? undefined : resolve(flowers102Dir);
  const names = Object.keys(source.files) as FileName[];
  const unpacked = folder !== undefined && inFolder(folder, ARCHIVE) === undefined && holdsImages(folder);
  const own = (name: FileName): string | undefined => folder && inFolder(folder, name);
  const lacking = folder && names.find(name => !own(name) && !(name === ARCHIVE && unpacked));
  if (lacking !== undefined && lacking !== '')
    throw new UserError(
      `${folder} has no ${lacking}: --flowers102-dir needs a folder with ${names.join(', ')}; instead of the archive, its images (image_00001.jpg, …) may lie there in any folders. ${source.url}${lacking} is where it comes from.`,
    );
  const file = (name: FileName): Promise<string> => obtain(own(name) ?? join(downloadDir, name), source, mayDownload);
  const lists = async (): Promise<Entries> => readLists(await file('imagelabels.mat'), await file('setid.mat'));

  const { shards, fingerprint, skipped, findings } = await loadShards({
    name: 'flowers102',
    splits: LISTS,
    numClasses: FLOWER_NAMES.length,
    images: unpacked
      ? listUnpacked(folder, await lists())
      : {
          contents: names.map(name => source.files[name]).join(),
          async open() {
            const entries = await lists();
            return { total: entries.size, images: readArchive(await file(ARCHIVE), source.files[ARCHIVE], entries) };
          },
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
    description: `Oxford Flowers-102, ${split} split: ${train.length} + ${test.length} photographs of ${FLOWER_NAMES.length} species, cropped from copies of ${side} px at most on the shorter side`,
    fingerprint: createHash('sha256').update(`${fingerprint} ${split}`).digest('hex'),
    skipped,
    findings,
  };
}

/** Folders within each other in which images are looked for: releases have them in `dataset/train/1/`. */
const DEPTH = 4;

/** Whether some image of Flowers-102 lies below a folder. */
function holdsImages(folder: string, depth = DEPTH): boolean {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return false; // no folder, or closed to us
  }
  if (names.some(name => !Number.isNaN(fileNumber(name)))) return true;
  return depth > 0 && names.some(name => !name.startsWith('.') && holdsImages(join(folder, name), depth - 1));
}

export const FLOWERS102: Source<Flowers102Options> = {
  spec: 'flowers102[:split=official|paddle]',
  open: (pairs, options) => flowers102(pairs, options),
};
