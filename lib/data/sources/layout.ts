import { existsSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { oneOf, UserError } from '../../util/errors';
import { positiveInteger } from '../../util/options';
import { random } from '../../util/random';
import type { Named } from '../dataset';
import { matchLabels, readLabels } from './labels';
import { byCodeUnits, type ImageFile, ignore, imagesBelow, merge, newTally, readFolder, type Tally } from './walk';

const FRACTION = 'expected a number above 0 and below 1';

export const folderOptions = z.strictObject({
  /** Fraction of each class that is held back for testing, where the folder holds none back. */
  split: z.coerce.number(FRACTION).gt(0, FRACTION).lt(1, FRACTION).optional(),
  /** Of that split, and of `limit`. */
  seed: z.string().default('0'),
  /** Table of images and their labels. */
  labels: z.string().min(1).optional(),
  /** Images of each split at most, spread over the classes. */
  limit: positiveInteger.optional(),
});

export type FolderOptions = z.output<typeof folderOptions>;

export type SplitName = 'train' | 'test' | 'val';

/** What the folders of splits are called, in lower case; capitals don't matter. */
const ALIASES: Record<SplitName, readonly string[]> = {
  train: ['train', 'training'],
  test: ['test', 'testing'],
  val: ['val', 'valid', 'validation', 'dev'],
};
const SPLITS = Object.keys(ALIASES) as SplitName[];

const splitOf = (name: string): SplitName | undefined =>
  SPLITS.find(split => ALIASES[split].includes(name.toLowerCase()));

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

/** An image before classes have numbers. */
interface Found {
  name: string;
  size: number;
  className: string;
  /** Path below the folder of its class. */
  rest: string;
}

/** A folder of a split, with what is in it. */
interface SplitFolder {
  split: SplitName;
  /** Name in the root. */
  folder: string;
  /** Class → its images; empty where no folder in it has images. */
  classes: Map<string, Found[]>;
  /** Images that lie in it directly. */
  loose: ImageFile[];
}

/** Words of a table of labels for a folder in which they are expected. */
const LABELS_HINT = 'labels=FILE.csv names a table of images and their classes';

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

const some = (names: readonly string[], most = 4): string =>
  `${names
    .slice(0, most)
    .map(name => `'${name}'`)
    .join(', ')}${names.length > most ? ` and ${names.length - most} more` : ''}`;

/** Class → images of the folders in `folder`: names that look the same, in composed or decomposed Unicode, are one class. */
function classesIn(root: string, folder: string, names: readonly string[], tally: Tally): Map<string, Found[]> {
  const classes = new Map<string, Found[]>();
  for (const name of names) {
    const below = folder === '' ? name : `${folder}/${name}`;
    const images = imagesBelow(join(root, below), `${below}/`, tally);
    const className = name.normalize('NFC');
    const found = classes.get(className) ?? [];
    for (const { path, size } of images) found.push({ name: `${below}/${path}`, size, className, rest: path });
    classes.set(className, found);
  }
  return classes;
}

function readSplit(root: string, split: SplitName, folder: string, tally: Tally): SplitFolder {
  const { folders, images: loose } = readFolder(join(root, folder), `${folder}/`, tally);
  return { split, folder, classes: classesIn(root, folder, folders, tally), loose };
}

const hasImages = (classes: Map<string, Found[]>): boolean => [...classes.values()].some(images => images.length > 0);

/** The folders of splits in the root. Throws a UserError where two are the same split, such as `val` and `valid`. */
function splitFolders(names: readonly string[], root: string): Map<SplitName, string> {
  const found = new Map<SplitName, string>();
  for (const name of names) {
    const split = splitOf(name);
    if (!split) continue;
    const other = found.get(split);
    if (other !== undefined)
      throw new UserError(`${root} has both '${other}' and '${name}', which mean the same split: leave one of them.`);
    found.set(split, name);
  }
  return found;
}

/** What single folders are called that hold all images of a split, and mean no class. */
const NO_CLASS = /^(images?|imgs?|pictures|photos|data|unknown|unlabell?ed|test(ing)?|val(id|idation)?|\d*)$/i;

/** Whether a split that is held back has its images all in one folder, so that their classes must come from elsewhere. */
function isFlat({ classes, loose }: SplitFolder, known: readonly string[]): boolean {
  const folders = [...classes].filter(([, images]) => images.length > 0).map(([name]) => name);
  if (folders.length === 0) return loose.length > 0;
  return folders.length === 1 && !known.includes(folders[0]) && NO_CLASS.test(folders[0]);
}

/** The table of the labels of a flat folder, where one is given or comes with the data: Tiny ImageNet's, or ImageNet's at Kaggle. */
function tableFor(root: string, part: SplitFolder, { labels }: FolderOptions, flat: number): string | undefined {
  if (labels === undefined)
    return [join(root, part.folder, 'val_annotations.txt'), join(root, `LOC_${part.folder}_solution.csv`)].find(path =>
      existsSync(path),
    );
  const file = labelsPath(root, labels);
  // One with labels alone belongs, of several folders, to that with as many images.
  const { rows } = readLabels(file);
  return rows[0].image !== undefined || flat === 1 || rows.length === imagesOf(part).length ? file : undefined;
}

/** A table's path, from where the user stands or from the folder. */
function labelsPath(root: string, labels: string): string {
  return [resolve(labels), join(root, labels)].find(path => existsSync(path)) ?? resolve(labels);
}

/** Numbers instead of names of classes count the folders of `train` from 0, in the order of their names, as in Caffe's lists. */
function namesOfNumbers(
  file: string,
  labels: readonly string[],
  classes: readonly string[],
): (label: string) => string {
  const known = new Set(classes);
  if (known.size === 0 || labels.length === 0 || labels.some(label => known.has(label) || !/^\d+$/.test(label)))
    return label => label;
  const numbers = labels.map(Number);
  const most = numbers.reduce((a, b) => Math.max(a, b), 0);
  if (!numbers.includes(0) || most >= classes.length)
    throw new UserError(
      `${file} numbers the classes from ${numbers.reduce((a, b) => Math.min(a, b), most)} to ${most}, which cannot be the ${classes.length} folders of 'train' counted from 0 in the order of their names (ImageNet's own numbers have another order): a table with the folders' names is expected.`,
    );
  return label => classes[Number(label)];
}

/** All images of a split, whatever folders they lie in, by their paths in its folder. */
function imagesOf({ folder, classes, loose }: SplitFolder): ImageFile[] {
  const within = [...classes.values()].flat().map(({ name, size }) => ({ path: name.slice(folder.length + 1), size }));
  return [...loose, ...within].sort((a, b) => byCodeUnits(a.path, b.path));
}

/** Gives classes to images of one folder by a table. */
function labelFlat(part: SplitFolder, file: string, classes: readonly string[], tally: Tally): Found[] {
  const { labelled, unlabelled } = matchLabels(imagesOf(part), readLabels(file));
  ignore(tally, `without a label in ${file}`, unlabelled);
  const nameOf = namesOfNumbers(file, [...new Set(labelled.map(({ row }) => row.label))], classes);
  return labelled.map(({ path, size, row }) => ({
    name: `${part.folder}/${path}`,
    size,
    className: nameOf(row.label).normalize('NFC'),
    rest: path,
  }));
}

/** Images by split and class, as they lie. */
type Content = Map<SplitName, Map<string, Found[]>>;

function addTo(classes: Map<string, Found[]>, image: Found): void {
  const found = classes.get(image.className);
  if (found) found.push(image);
  else classes.set(image.className, [image]);
}

function group(images: readonly Found[]): Map<string, Found[]> {
  const classes = new Map<string, Found[]>();
  for (const image of images) addTo(classes, image);
  return classes;
}

/** A layout of `train/` and what is held back. */
function readSplits(
  root: string,
  folders: ReadonlyMap<SplitName, string>,
  options: FolderOptions,
  tally: Tally,
  notes: string[],
): { content: Content; labelledByTable: boolean } {
  const train = readSplit(root, 'train', folders.get('train')!, tally);
  const held = SPLITS.filter(split => split !== 'train' && folders.has(split)).map(split =>
    readSplit(root, split, folders.get(split)!, tally),
  );
  const content: Content = new Map();
  let tableUsed = false,
    labelledByTable = false;
  const trainPath = join(root, train.folder);
  if (hasImages(train.classes)) {
    ignore(tally, `in '${train.folder}' beside its classes`, train.loose.length);
    content.set('train', train.classes);
  } else {
    if (train.loose.length === 0)
      throw new UserError(
        `${trainPath} has no classes${train.classes.size > 0 ? ' with images in them' : ''}: each needs a folder of its own, with its images in it.`,
      );
    if (options.labels === undefined)
      throw new UserError(
        `${trainPath} has no classes, but ${train.loose.length} images that lie in it directly: ${LABELS_HINT} (folder:PATH:labels=FILE.csv).`,
      );
    content.set('train', group(labelFlat(train, labelsPath(root, options.labels), [], tally)));
    tableUsed = labelledByTable = true;
  }
  const known = [...content.get('train')!.keys()].sort(byCodeUnits);
  const unlabelled: SplitFolder[] = [];
  const flat = held.filter(part => isFlat(part, known));
  for (const part of held) {
    const file = flat.includes(part) ? tableFor(root, part, options, flat.length) : undefined;
    if (file !== undefined) {
      const images = labelFlat(part, file, known, tally);
      if (images.length > 0) {
        content.set(part.split, group(images));
        tableUsed ||= options.labels !== undefined;
        notes.push(`the classes in '${part.folder}' are those of ${file}`);
      } else unlabelled.push(part);
    } else if (flat.includes(part)) {
      unlabelled.push(part);
    } else if (hasImages(part.classes)) {
      ignore(tally, `in '${part.folder}' beside its classes`, part.loose.length);
      content.set(part.split, part.classes);
    } else {
      ignore(tally, 'splits without an image');
    }
  }
  if (options.labels !== undefined && !tableUsed)
    throw new UserError(
      `labels=${options.labels} names no class of an image here: all of ${some([train, ...held].map(({ folder }) => folder))} have folders of classes, or other images than it names.`,
    );
  for (const part of unlabelled) {
    const { folder } = part;
    const count = imagesOf(part).length;
    if (content.size === 1 && options.split === undefined)
      throw new UserError(
        `${join(root, folder)} has no classes, but ${count} images without: ${LABELS_HINT} (folder:PATH:labels=FILE.csv), or folder:PATH:split=0.2 holds back a part of '${train.folder}' instead.`,
      );
    notes.push(`'${folder}' is ignored: its ${count} images have no labels (${LABELS_HINT})`);
  }
  return { content, labelledByTable };
}

/** All images below the root by a table, in the splits that it says, or else in those that their folders are named after. */
function readTable(root: string, file: string, tally: Tally): { content: Content; undivided: Found[] } {
  const images = imagesBelow(root, '', tally);
  if (images.length === 0) throw new UserError(`${root} has no images for the labels of ${file}.`);
  const { labelled, unlabelled, unmatched } = matchLabels(images, readLabels(file));
  if (labelled.length === 0)
    throw new UserError(`${file} names none of the ${images.length} images in ${root}, such as '${images[0].path}'.`);
  ignore(tally, `without a label in ${file}`, unlabelled);
  ignore(tally, `rows of ${file} without an image`, unmatched);
  const content: Content = new Map();
  const undivided: Found[] = [];
  for (const { path, size, row } of labelled) {
    const split = splitOf(row.split ?? path.slice(0, Math.max(0, path.indexOf('/'))));
    if (row.split && !split)
      throw new UserError(
        `${file} has the split '${row.split}': allowed are ${oneOf(SPLITS.flatMap(each => ALIASES[each]))}.`,
      );
    const image = { name: path, size, className: row.label.normalize('NFC'), rest: path };
    if (!split) {
      undivided.push(image);
      continue;
    }
    const classes = content.get(split) ?? new Map<string, Found[]>();
    addTo(classes, image);
    content.set(split, classes);
  }
  return { content, undivided };
}

/** Holds back a part of each class: at least one image, and not all. Which ones depends on the seed, the class and the names alone. */
function divide(classes: ReadonlyMap<string, Found[]>, fraction: number, seed: string): Content {
  const train = new Map<string, Found[]>(),
    test = new Map<string, Found[]>();
  for (const [className, images] of classes) {
    const order = random(seed).fork('split', className).permutation(images.length);
    const count =
      images.length < 2 ? 0 : Math.min(images.length - 1, Math.max(1, Math.round(fraction * images.length)));
    const heldBack = new Set(order.slice(0, count));
    train.set(
      className,
      images.filter((_, i) => !heldBack.has(i)),
    );
    test.set(
      className,
      images.filter((_, i) => heldBack.has(i)),
    );
  }
  return new Map([
    ['train', train],
    ['test', test],
  ]);
}

/** At most so many images, from every class as evenly as they are there, chosen by the seed; they stay in their order. */
function limited(
  classes: ReadonlyMap<string, Found[]>,
  limit: number,
  seed: string,
  split: string,
): Map<string, Found[]> {
  const orders = [...classes].map(([className, images]) =>
    random(seed).fork('limit', split, className).permutation(images.length),
  );
  const taken = orders.map(() => 0);
  for (let left = limit, moved = true; left > 0 && moved; ) {
    moved = false;
    orders.forEach((order, i) => {
      if (left === 0 || taken[i] === order.length) return;
      taken[i]++;
      left--;
      moved = true;
    });
  }
  return new Map(
    [...classes].map(([className, images], i) => {
      const kept = new Set(orders[i].slice(0, taken[i]));
      return [className, images.filter((_, at) => kept.has(at))];
    }),
  );
}

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
      `${root} has no folder 'train', but the ${folders.length} folders ${some(folders)}: ${expected}. If these are the classes, folder:${root}:split=0.2 holds back a fifth of each.`,
    );
  if (loose > 0)
    throw new UserError(
      `${root} has no folder 'train', but ${loose} images that lie in it directly: ${expected}; or ${LABELS_HINT} (folder:PATH:labels=FILE.csv,split=0.2).`,
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
    throw new UserError(`limit=${limit} is less than the ${classes.length} classes: each needs an image.`);
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
