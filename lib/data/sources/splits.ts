import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../../util/errors';
import { counted } from '../../util/text';
import type { FolderOptions } from './folderOptions';
import { type Content, type Found, group, SPLITS, type SplitName, splitOf } from './found';
import { matchLabels, readLabels } from './labels';
import { LABELS_HINT, labelsPath } from './table';
import { byCodeUnits, type ImageFile, ignore, imagesBelow, readFolder, type Tally } from './walk';

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

export const some = (names: readonly string[], most = 4): string =>
  `${names
    .slice(0, most)
    .map(name => `'${name}'`)
    .join(', ')}${names.length > most ? ` and ${names.length - most} more` : ''}`;

/** Class → images of the folders in `folder`: names that look the same, in composed or decomposed Unicode, are one class. */
export function classesIn(root: string, folder: string, names: readonly string[], tally: Tally): Map<string, Found[]> {
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

export const hasImages = (classes: Map<string, Found[]>): boolean =>
  [...classes.values()].some(images => images.length > 0);

/** The folders of splits in the root. Throws a UserError where two are the same split, such as `val` and `valid`. */
export function splitFolders(names: readonly string[], root: string): Map<SplitName, string> {
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

/** A layout of `train/` and what is held back. */
export function readSplits(
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
        `${trainPath} has no classes, but ${counted(train.loose.length, 'image')} directly in it: ${LABELS_HINT} (folder:PATH:labels=FILE.csv).`,
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
        `${join(root, folder)} has no classes, but ${counted(count, 'image')} without: ${LABELS_HINT} (folder:PATH:labels=FILE.csv), or folder:PATH:split=0.2 holds back a part of '${train.folder}' instead.`,
      );
    notes.push(`'${folder}' is ignored: it has ${counted(count, 'image')} and no labels (${LABELS_HINT})`);
  }
  return { content, labelledByTable };
}
