import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { writeFileAtomic } from '../../util/files';

/** What a file was when it was set up: kept beside it, as `<file>.sum`. */
interface Recorded {
  sha256: string;
  bytes: number;
  /** Seconds; what is finer gets lost in copies and archives. */
  modified: number;
}

/** Where a file's sum is kept. */
export const recordOf = (file: string): string => `${file}.sum`;

function state(file: string): Omit<Recorded, 'sha256'> | undefined {
  const entry = statSync(file, { throwIfNoEntry: false });
  return entry && { bytes: entry.size, modified: Math.floor(entry.mtimeMs / 1000) };
}

/** sha256 of a file, in hexadecimal. */
export async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}

function recorded(file: string): Recorded | undefined {
  if (!existsSync(recordOf(file))) return undefined;
  try {
    return JSON.parse(readFileSync(recordOf(file), 'utf8')) as Recorded;
  } catch {
    return undefined;
  }
}

/** Notes what the file is now, as what it shall be. */
export async function record(file: string): Promise<void> {
  writeFileAtomic(recordOf(file), JSON.stringify({ sha256: await sha256(file), ...state(file) }));
}

/** Whether the file is there in the size and of the time that were recorded: what every start can afford to ask. */
export function isUntouched(file: string): boolean {
  const [known, now] = [recorded(file), state(file)];
  return known !== undefined && known.bytes === now?.bytes && known.modified === now.modified;
}

/** Whether the whole file has the recorded sum; undefined where nothing was recorded. */
export async function isIntact(file: string): Promise<boolean | undefined> {
  const known = recorded(file);
  if (!known) return undefined;
  return known.bytes === state(file)?.bytes && known.sha256 === (await sha256(file));
}
