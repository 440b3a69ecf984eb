import { createHash } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, extname, join, resolve } from 'node:path';
import { ahead } from '../../util/ahead';
import { oneOf, UserError } from '../../util/errors';
import { type CacheOptions, checkClasses, loadShards } from '../cache/cache';
import type { RawPicture } from '../cache/shards';
import type { Dataset } from '../dataset';

const EXTENSIONS = ['.jpg', '.jpeg', '.png', '.webp'];

type Listed = Omit<RawPicture, 'bytes'>;

function unreadable(path: string, error: unknown): UserError {
  return new UserError(`${path} can't be read (${(error as NodeJS.ErrnoException).code}).`);
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

/** Names in a folder, sorted by code units, so that the order of classes is the same everywhere; hidden ones are left out. */
function list(folder: string, keep: (path: string) => boolean): string[] {
  try {
    return readdirSync(folder)
      .filter(name => !name.startsWith('.') && keep(join(folder, name)))
      .sort();
  } catch (error) {
    throw unreadable(folder, error);
  }
}

function classesIn(folder: string): string[] {
  const classes = list(folder, isFolder);
  if (classes.length === 0)
    throw new UserError(`${folder} has no classes: each needs a folder of its own, with its images in it.`);
  return classes;
}

function listSplit(root: string, split: string, classes: readonly string[]): Listed[] {
  const folder = join(root, split);
  const unknown = classesIn(folder).find(name => !classes.includes(name));
  if (unknown !== undefined)
    throw new UserError(
      `The class '${unknown}' is in ${folder}, but not in ${join(root, 'train')}, so that nothing could learn it.`,
    );
  return classes.flatMap((name, label) => {
    const inClass = join(folder, name);
    if (!isFolder(inClass))
      throw new UserError(
        `The class '${name}' is missing from ${folder}: it needs the same classes as ${join(root, 'train')}.`,
      );
    const pictures = list(inClass, path => EXTENSIONS.includes(extname(path).toLowerCase()) && !isFolder(path));
    if (pictures.length === 0)
      throw new UserError(`The class '${name}' is empty: ${inClass} has no image that ends in ${oneOf(EXTENSIONS)}.`);
    return pictures.map(picture => ({ name: `${split}/${name}/${picture}`, split, label }));
  });
}

/** The splits that a folder has: `train`, and `test`, `val` or both. */
function splitsIn(root: string): string[] {
  if (!existsSync(root)) throw new UserError(`The folder ${root} doesn't exist.`);
  if (!isFolder(root))
    throw new UserError(`${root} is a file, but a folder with train/<class>/ and test/<class>/ is expected.`);
  if (!isFolder(join(root, 'train')))
    throw new UserError(
      `${root} has no folder 'train': images are expected in train/<class>/ and in test/<class>/ or val/<class>/.`,
    );
  const held = ['test', 'val'].filter(split => isFolder(join(root, split)));
  if (held.length === 0)
    throw new UserError(
      `${root} has neither a folder 'test' nor 'val': without images that are held back nothing can be measured.`,
    );
  return ['train', ...held];
}

/**
 * A folder of photographs: `train/<class>/*` and `test/<class>/*` or `val/<class>/*` (with both, `val` is kept beside
 * `test`); JPEG, PNG or WebP. Classes are sorted by name. Throws a UserError for a folder that can't be trained on.
 */
export async function imageFolder(path: string, options: CacheOptions): Promise<Dataset> {
  const root = resolve(path);
  const splits = splitsIn(root);
  const classes = classesIn(join(root, 'train'));
  if (classes.length === 1)
    throw new UserError(
      `${join(root, 'train')} has the single class '${classes[0]}': with one there is nothing to tell apart.`,
    );
  const listed = splits.flatMap(split => listSplit(root, split, classes));

  const read = async (picture: Listed): Promise<RawPicture> => {
    const file = join(root, picture.name);
    return {
      ...picture,
      bytes: await readFile(file).catch(error => {
        throw unreadable(file, error);
      }),
    };
  };
  const hash = createHash('sha256');
  for await (const { name, bytes } of ahead(listed, 8, read)) hash.update(`${name}\0${bytes.length}\0`).update(bytes);

  const { shards, fingerprint } = await loadShards({
    name: 'folder',
    contents: hash.digest('hex'),
    splits,
    numClasses: classes.length,
    open: async () => ({ total: listed.length, pictures: ahead(listed, 8, read) }),
    options,
  });
  checkClasses(shards, classes);
  const test = shards.splits.test ?? shards.splits.val;
  return {
    name: basename(root),
    classes,
    train: shards.splits.train,
    test,
    ...(splits.length === 3 && { val: shards.splits.val }),
    description: `${shards.splits.train.length} + ${test.length} images of ${classes.length} classes from ${path}`,
    fingerprint,
    skipped: shards.skipped,
  };
}
