import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { oneOf, UserError } from '../../util/errors';
import { ALIASES, addTo, type Content, type Found, SPLITS, splitOf } from './found';
import { matchLabels, readLabels } from './labels';
import { ignore, imagesBelow, type Tally } from './walk';

/** Words of a table of labels for a folder in which they are expected. */
export const LABELS_HINT = 'labels=FILE.csv names a table of images and their classes';

/** A table's path, from where the user stands or from the folder. */
export function labelsPath(root: string, labels: string): string {
  return [resolve(labels), join(root, labels)].find(path => existsSync(path)) ?? resolve(labels);
}

/** All images below the root by a table, in the splits that it says, or else in those that their folders are named after. */
export function readTable(root: string, file: string, tally: Tally): { content: Content; undivided: Found[] } {
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
