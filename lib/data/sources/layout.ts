import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { oneOf, UserError } from '../../util/errors';
import { counted } from '../../util/text';
import type { Named } from '../dataset';
import type { FolderOptions } from './folderOptions';
import { type Content, type Found, group, SPLITS, type SplitName, splitOf } from './found';
import { divide, limited } from './selection';
import { classesIn, hasImages, readSplits, some, splitFolders } from './splits';
import { LABELS_HINT, labelsPath, readTable } from './table';
import { byCodeUnits, ignore, merge, newTally, readFolder, type Tally } from './walk';

export interface ListedImage {
  /** Path below the root. */
  name: string;
  /** What the fingerprint knows it by: `split/class/path`, whatever the folders are called here. */
  key: string;
  split: SplitName;
  label: number;
  size: number;
}

export interface Listing {
  classes: string[];
  splits: SplitName[];
  images: ListedImage[];
  ignored: Record<string, number>;
  unreadable: Named[];
  /** What was assumed or passed over, in sentences. */
  notes: string[];
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

/** Says what is in a folder that has no split, and what would help. */
function refuseRoot(root: string, folders: readonly string[], loose: number): never {
  const within = folders.find(name =>
    ['train', 'Train', 'TRAIN', 'training'].some(train => isFolder(join(root, name, train))),
  );
  const expected = 'images are expected in train/<class>/, and in test/<class>/ or val/<class>/';
  if (within !== undefined)
    throw new UserError(
      `${root} has no folder 'train', but ${join(root, within)} has: did you mean folder:${join(root, within)}?`,
    );
  if (folders.length > 1)
    throw new UserError(
      `${root} has no folder 'train', but the ${counted(folders.length, 'folder')} ${some(folders)}: ${expected}. If these are the classes, folder:${root}:split=0.2 holds back a fifth of each.`,
    );
  if (loose > 0)
    throw new UserError(
      `${root} has no folder 'train', but ${counted(loose, 'image')} directly in it: ${expected}; or ${LABELS_HINT} (folder:PATH:labels=FILE.csv,split=0.2).`,
    );
  throw new UserError(
    `${root} has no folder 'train'${folders.length > 0 ? ` (it has ${some(folders)})` : ' and is empty of images'}: ${expected}.`,
  );
}

/** Finds the images of a folder and their classes, in any of the layouts that datasets/README.md lists. Throws a UserError that says what it saw. */
export function listFolder(root: string, options: FolderOptions): Listing {
  if (!existsSync(root)) {
    const [, path, pairs] = /^(.*?),(\w+=.*)$/s.exec(root) ?? [];
    throw new UserError(
      `The folder ${root} doesn't exist${path !== undefined && existsSync(path) ? `: did you mean folder:${path}:${pairs}?` : '.'}`,
    );
  }
  if (!isFolder(root))
    throw new UserError(`${root} is a file, but a folder with train/<class>/ and test/<class>/ is expected.`);
  const tally = newTally();
  const notes: string[] = [];
  const atTop = newTally();
  const top = readFolder(root, '', atTop);
  const named = splitFolders(top.folders, root);
  let content: Content;
  let undivided: ReadonlyMap<string, Found[]> | undefined;
  let byTable = false;
  if (named.has('train')) {
    merge(atTop, tally);
    const { content: found, labelledByTable } = readSplits(root, named, options, tally, notes);
    content = found;
    ignore(tally, "folders beside 'train'", top.folders.filter(name => !splitOf(name)).length);
    ignore(tally, "images beside 'train'", top.images.length);
    byTable = labelledByTable;
    if (content.size === 1) undivided = content.get('train');
  } else if (options.labels !== undefined) {
    byTable = true;
    const table = readTable(root, labelsPath(root, options.labels), tally);
    content = table.content;
    if (table.undivided.length > 0) {
      if (content.size > 0)
        throw new UserError(
          `labels=${options.labels} puts some images into splits, but not all: ${table.undivided[0].name} has none.`,
        );
      undivided = group(table.undivided);
    } else if (!content.has('train')) {
      throw new UserError(`labels=${options.labels} has no images of 'train' to learn from.`);
    } else if (content.size === 1) undivided = content.get('train');
  } else if (named.size > 0 || options.split === undefined) {
    refuseRoot(root, top.folders, top.images.length);
  } else {
    merge(atTop, tally);
    content = new Map();
    undivided = classesIn(root, '', top.folders, tally);
    if (!hasImages(undivided as Map<string, Found[]>)) refuseRoot(root, [], top.images.length);
    ignore(tally, 'beside the folders of classes', top.images.length);
  }

  if (undivided) {
    if (options.split === undefined)
      throw new UserError(
        `${root} has neither a folder 'test' nor 'val' with labelled images: without images that are held back nothing can be measured. folder:${root}:${options.labels === undefined ? '' : `labels=${options.labels},`}split=0.2 holds back a fifth of each class.`,
      );
    content = divide(undivided, options.split, options.seed);
  } else if (options.split !== undefined) {
    throw new UserError(
      `split=${options.split} has no use: ${root} has ${oneOf(SPLITS.filter(each => each !== 'train' && content.has(each)))} to test on already.`,
    );
  }
  return finish(root, content, byTable, options, tally, notes);
}

/** Numbers the classes, those that a table numbers in their own order, and puts images in the order of splits, classes and paths. */
function finish(
  root: string,
  content: Content,
  byTable: boolean,
  { limit, seed }: FolderOptions,
  tally: Tally,
  notes: string[],
): Listing {
  const train = content.get('train')!;
  const used = new Set(
    [...content.values()].flatMap(classes =>
      [...classes].flatMap(([name, images]) => (images.length > 0 ? [name] : [])),
    ),
  );
  const numbers = byTable && [...used].every(name => /^\d+$/.test(name));
  const classes = [...used]
    .filter(name => train.has(name))
    .sort(numbers ? (a, b) => Number(a) - Number(b) : byCodeUnits);
  ignore(tally, 'folders of classes without an image', [...train.keys()].filter(name => !used.has(name)).length);
  for (const [split, held] of content) {
    const unknown = [...held].find(([name, images]) => images.length > 0 && !train.has(name));
    if (!unknown) continue;
    const like = classes.find(name => name.toLowerCase() === unknown[0].toLowerCase());
    throw new UserError(
      `The class '${unknown[0]}' is in '${split}' (${unknown[1][0].name}), but not in 'train', so that nothing could learn it${like === undefined ? '' : `: did you mean '${like}'`}.`,
    );
  }
  if (classes.length === 0) throw new UserError(`${root} has no classes: no folder of 'train' has an image in it.`);
  if (classes.length === 1)
    throw new UserError(`${root} has the single class '${classes[0]}': with one there is nothing to tell apart.`);
  const splits = SPLITS.filter(split => content.has(split));
  if (limit !== undefined && limit < classes.length)
    throw new UserError(
      `limit=${limit} is less than the ${counted(classes.length, 'class', 'classes')}: each needs an image.`,
    );
  const images = splits.flatMap(split => {
    const all = content.get(split)!;
    const kept = limit === undefined ? all : limited(all, limit, seed, split);
    return classes.flatMap((className, label) =>
      (kept.get(className) ?? [])
        .sort((a, b) => byCodeUnits(a.name, b.name))
        .map(
          ({ name, size, rest }): ListedImage => ({ name, key: `${split}/${className}/${rest}`, split, label, size }),
        ),
    );
  });
  return { classes, splits, images, ignored: tally.ignored, unreadable: tally.unreadable, notes };
}
