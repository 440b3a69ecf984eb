import { basename, extname, join, resolve } from 'node:path';
import { UserError } from '../../util/errors';
import { parseOptions } from '../../util/options';
import { counted } from '../../util/text';
import { type CacheOptions, checkClasses, loadShards, REPORT } from '../cache/cache';
import { DEFAULT_SIDE } from '../cache/side';
import type { Dataset } from '../dataset';
import type { Source } from '../source';
import { readImage } from './file';
import { folderOptions } from './folderOptions';
import { type ListedImage, listFolder } from './layout';

/** What version 0.1.0 found: files of these kinds by name, directly in the folders of classes. */
const foundBefore = ({ key = '' }: { key?: string }): boolean =>
  ['.jpg', '.jpeg', '.png', '.webp'].includes(extname(key).toLowerCase()) && key.split('/').length === 3;

/**
 * A folder of photographs in any of the layouts that datasets/README.md lists: `train/<class>/*` and `test/<class>/*` or `val/<class>/*`
 * (with both, `val` is kept beside `test`), or classes with `split=0.2`, or a table of labels. Classes are sorted by name. Throws a
 * UserError for a folder that can't be trained on.
 */
export async function imageFolder(path: string, spec: Record<string, string>, options: CacheOptions): Promise<Dataset> {
  const root = resolve(path);
  const parsed = parseOptions(folderOptions, spec, `folder:${path}`);
  const { classes, splits, images, ignored, unreadable, notes } = listFolder(root, parsed);
  const { report = REPORT, side = DEFAULT_SIDE } = options;
  const { shards, fingerprint, skipped, findings } = await loadShards({
    name: 'folder',
    splits,
    numClasses: classes.length,
    images: images.map((image: ListedImage) => ({ ...image, read: () => readImage(join(root, image.name)) })),
    ignored,
    unreadable,
    foundBefore,
    options,
  });
  for (const note of notes) report(note);
  checkClasses(shards.splits, classes, report);
  const { train, test, val } = shards.splits;
  const tested = test ?? val;
  if (!tested) throw new UserError(`${root} holds no images back.`);
  return {
    name: basename(root),
    classes,
    train,
    test: tested,
    ...(test && val && { val }),
    description: `${train.length} + ${tested.length} images of ${counted(classes.length, 'class', 'classes')}, cropped from copies of ${side} px at most on the shorter side, from ${path}`,
    fingerprint,
    skipped,
    findings,
  };
}

export const FOLDER: Source<CacheOptions> = {
  spec: 'folder:PATH[:key=value,…]',
  hasPath: true,
  open: (pairs, options, path) => imageFolder(path, pairs, options),
};
