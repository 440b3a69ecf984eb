import { closeSync, openSync, readdirSync, readSync, realpathSync, type Stats, statSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { UserError } from '../../util/errors';
import type { Named } from '../dataset';
import { fileKind, hasImageExtension, isRead, notRead, otherImageExtension, SNIFFED_BYTES } from '../kinds';

/** What a walk through a folder passed over: most of it by reason and count, images by name. */
export interface Tally {
  ignored: Record<string, number>;
  unreadable: Named[];
}

export const newTally = (): Tally => ({ ignored: {}, unreadable: [] });

export function ignore(tally: Tally, reason: string, count = 1): void {
  if (count > 0) tally.ignored[reason] = (tally.ignored[reason] ?? 0) + count;
}

/** Adds one tally to another. */
export function merge(from: Tally, into: Tally): void {
  for (const [reason, count] of Object.entries(from.ignored)) ignore(into, reason, count);
  for (const image of from.unreadable) into.unreadable.push(image);
}

/** An image file below a folder. */
export interface ImageFile {
  /** Path below the folder, with slashes. */
  path: string;
  size: number;
}

export interface Folder {
  /** Names of the folders in it, in the order of their code units. */
  folders: string[];
  images: ImageFile[];
}

/** What systems and programs leave in folders of images. */
const LITTER = new Set([
  '__MACOSX',
  '@eaDir',
  '#recycle',
  '$RECYCLE.BIN',
  'System Volume Information',
  'lost+found',
  'Thumbs.db',
  'desktop.ini',
  'Icon\r',
]);

/** Bytes of the largest file that is taken for an image: more than any image within the limit of pixels fills. */
const MAX_FILE_BYTES = 1 << 30;

/** Orders text by its code units, as every machine does alike. */
export const byCodeUnits = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Why a file can't be read, by the system's code; undefined for what says nothing of the file itself. */
export function unreadableReason(error: unknown): string | undefined {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOENT':
      return 'a link to nothing, or deleted meanwhile';
    case 'ELOOP':
      return 'a link that leads to itself';
    case 'EACCES':
    case 'EPERM':
      return 'no permission to read it';
    case 'ENOTDIR':
    case 'ENAMETOOLONG':
    case 'ENXIO':
      return `cannot be opened (${(error as NodeJS.ErrnoException).code})`;
    default:
      return undefined;
  }
}

export const unreadableFolder = (path: string, error: unknown): UserError =>
  new UserError(`${path} can't be read (${(error as NodeJS.ErrnoException).code}).`);

function headOf(file: string): Uint8Array {
  const handle = openSync(file, 'r');
  try {
    const head = new Uint8Array(SNIFFED_BYTES);
    return head.subarray(0, readSync(handle, head));
  } finally {
    closeSync(handle);
  }
}

/** The extension of a file that is no image, for its count: numbers and the like would make as many sorts as files. */
function sort(path: string): string {
  const extension = extname(path).toLowerCase();
  if (extension === '') return 'no extension';
  return /^\.(?=.*[a-z])[a-z0-9]{1,8}$/.test(extension) ? extension : 'other extensions';
}

/** Whether a file is an image, by its extension or else its content; what is not is counted, and named where people may take it for one. */
function isImage(file: string, name: string, path: string, { size }: Stats, tally: Tally): boolean {
  const leaveOut = (reason: string): false => {
    tally.unreadable.push({ name, reason });
    return false;
  };
  const other = otherImageExtension(path);
  if (other !== undefined) return leaveOut(notRead(other));
  const named = hasImageExtension(path);
  if (!named) {
    const kind = fileKind(headOf(file));
    if (kind === undefined || kind === 'PDF' || kind === 'HTML page') {
      ignore(tally, `no images (${sort(path)})`);
      return false;
    }
    if (!isRead(kind)) return leaveOut(notRead(kind));
  }
  if (size > MAX_FILE_BYTES) return leaveOut(`${(size / 1e9).toFixed(1)} GB are too large for an image file`);
  return true;
}

/**
 * What is in a folder: its folders, and the images among its files, in the order of their code units, so that it is the same everywhere.
 * All else goes to the tally. `prefix` begins the names in it. Throws a UserError where the folder can't be read.
 */
export function readFolder(folder: string, prefix: string, tally: Tally): Folder {
  let names: Buffer[];
  try {
    names = readdirSync(folder, { encoding: 'buffer' });
  } catch (error) {
    throw unreadableFolder(folder, error);
  }
  const result: Folder = { folders: [], images: [] };
  for (const raw of names) {
    const path = raw.toString('utf8');
    const name = prefix + path;
    if (!Buffer.from(path).equals(raw)) {
      tally.unreadable.push({ name, reason: 'its name is no UTF-8' });
    } else if (LITTER.has(path)) {
      ignore(tally, 'of the system (such as __MACOSX)');
    } else if (path.startsWith('.')) {
      ignore(tally, 'hidden');
    } else {
      const file = join(folder, path);
      try {
        const stats = statSync(file);
        if (stats.isDirectory()) result.folders.push(path);
        else if (!stats.isFile()) tally.unreadable.push({ name, reason: 'no regular file' });
        else if (isImage(file, name, path, stats, tally)) result.images.push({ path, size: stats.size });
      } catch (error) {
        const reason = unreadableReason(error);
        if (reason === undefined) throw error;
        tally.unreadable.push({ name, reason });
      }
    }
  }
  result.folders.sort(byCodeUnits);
  result.images.sort((a, b) => byCodeUnits(a.path, b.path));
  return result;
}

function folderId(folder: string): string {
  const { dev, ino } = statSync(folder);
  return `${dev}:${ino}`;
}

/** All images below a folder, in the order of their paths' code units. A folder within that can't be read is named, and left out. */
export function imagesBelow(root: string, prefix: string, tally: Tally): ImageFile[] {
  const images: ImageFile[] = [];
  const descend = (folder: string, below: string, above: readonly string[]): void => {
    const id = folderId(folder);
    if (above.includes(id)) {
      ignore(tally, 'links to folders above them');
      return;
    }
    let content: Folder;
    try {
      content = readFolder(folder, prefix + below, tally);
    } catch (error) {
      if (below === '' || !(error instanceof UserError)) throw error;
      tally.unreadable.push({ name: prefix + below, reason: 'a folder that cannot be read' });
      return;
    }
    for (const { path, size } of content.images) images.push({ path: below + path, size });
    for (const name of content.folders) descend(join(folder, name), `${below}${name}/`, [...above, id]);
  };
  const above: string[] = [];
  for (let at = dirname(realpathSync(root)); ; at = dirname(at)) {
    above.push(folderId(at));
    if (at === dirname(at)) break;
  }
  descend(root, '', above);
  return images.sort((a, b) => byCodeUnits(a.path, b.path));
}
