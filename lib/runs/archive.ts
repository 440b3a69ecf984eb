import { readFileSync, statSync } from 'node:fs';
import JSZip from 'jszip';
import * as yauzl from 'yauzl';
import { UserError } from '../util/errors';
import { counted, printable, shortened } from '../util/text';

/** Entries of a zip archive by name. They are held in memory: reading one writes nothing anywhere. */
export type Entries = ReadonlyMap<string, Buffer>;

/** What an archive may hold at most: a run of the largest network, with its average and its first weights, is a tenth of it. */
export interface Bounds {
  bytes: number;
  entries: number;
}

export const BOUNDS: Bounds = { bytes: 2 ** 30, entries: 4096 };

/** Plain relative names: nothing that one system or another takes for a root, a parent, a drive, a stream or a device. */
const NAME = /^(?!.*(^|\/)\.{1,2}(\/|$))[\w.@+-]+(\/[\w.@+-]+)*$/;
/** What Windows takes for devices, with any ending; nor does it keep a name that ends in a dot. */
const RESERVED = /(^|\/)(con|prn|aux|nul|com\d|lpt\d)(\.[^/]*)?(\/|$)|\.(\/|$)/i;

/** A zip keeps the modes of Unix in the upper half of an entry's attributes. */
const fileType = (entry: yauzl.Entry): number => (entry.externalFileAttributes >>> 16) & 0o170000;
const REGULAR = 0o100000;

/** Packs entries in their order, so that equal entries give equal bytes: no times, owners or modes, and jszip's own deflate, whatever Node's is. */
export function packArchive(entries: Entries): Promise<Buffer> {
  const zip = new JSZip();
  const date = new Date(Date.UTC(1980, 0, 1)); // the format's first day
  for (const [name, bytes] of entries) {
    // Weights are noise to a compressor: a second per 10 MB, for a tenth less. So are archives.
    zip.file(name, bytes, {
      date,
      createFolders: false,
      compression: /\.(safetensors|zip)$/.test(name) ? 'STORE' : 'DEFLATE',
    });
  }
  return zip.generateAsync({ type: 'nodebuffer', platform: 'DOS', compressionOptions: { level: 9 } });
}

/**
 * Reads an archive that anyone may have made. Throws UserError, of one sentence, for one that is cut short or damaged, or that holds
 * what an archive of plain files has no need of: names that lead out of a folder, names that come twice, links, folders,
 * encryption, or more than the bounds once inflated.
 */
export async function readArchive(file: string, bounds = BOUNDS): Promise<Entries> {
  try {
    const { size } = statSync(file);
    if (size > bounds.bytes) refuser(file)(`it has ${size} bytes, ${bounds.bytes} are allowed`);
    return await unpackArchive(file, readFileSync(file), bounds);
  } catch (error) {
    if (error instanceof UserError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new UserError(`There is no file '${file}'.`);
    throw new UserError(`'${file}' can't be read: ${message}.`);
  }
}

/** The same of an archive in memory, which may be inside of another; `file` is what refusals call it. */
export async function unpackArchive(file: string, bytes: Buffer, bounds = BOUNDS): Promise<Entries> {
  const refuse = refuser(file);
  const entries = new Map<string, Buffer>();
  const known = new Set<string>();
  try {
    const zip = await yauzl.fromBufferPromise(bytes, { strictFileNames: true });
    if (zip.entryCount > bounds.entries)
      refuse(`it has ${counted(zip.entryCount, 'entry', 'entries')}, ${bounds.entries} are allowed`);
    let left = bounds.bytes;
    for await (const entry of zip.eachEntry()) {
      const { fileName: name, uncompressedSize: size } = entry;
      const quoted = JSON.stringify(name);
      if (!NAME.test(name) || RESERVED.test(name)) refuse(`the name ${quoted} is not that of a plain file`);
      // Some systems take Name and name for one file.
      if (known.size === known.add(name.toLowerCase()).size) refuse(`${quoted} comes twice`);
      if (fileType(entry) !== 0 && fileType(entry) !== REGULAR) refuse(`${quoted} is a link or a device`);
      if (!entry.canDecodeFileData()) refuse(`${quoted} is encrypted, or packed by a method other than deflate`);
      left -= size;
      if (left < 0) refuse(`it holds more than ${bounds.bytes} bytes`);
      entries.set(name, await inflate(zip, entry));
    }
    return entries;
  } catch (error) {
    if (error instanceof UserError) throw error;
    return refuse(`it is no archive that can be read (${(error as Error).message.split(/\.(?: |$)/)[0]})`);
  }
}

/** Throws the UserError that refuses a file. What is quoted from the file is cut, and can't act on a terminal. */
export function refuser(file: string): (why: string) => never {
  return why => {
    throw new UserError(`'${file}' is refused: ${shortened(printable(why))}.`);
  };
}

/** An entry's bytes. The stream ends with an error as soon as there are more or fewer than declared. */
async function inflate(zip: yauzl.ZipFile, entry: yauzl.Entry): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of await zip.openReadStreamPromise(entry)) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
