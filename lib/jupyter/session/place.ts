import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Where a notebook is at home. */
export interface Place {
  /** The notebook's folder: what cells import and read is relative to it. */
  folder: string;
  /** The nearest folder around it with a package.json, or the folder itself: `./lib/…` may begin there too, and the files of it are checked. */
  project: string;
}

export function placeOf(folder: string): Place {
  return { folder, project: nearest(folder, 'package.json') ?? folder };
}

/** The folder at or above `folder` that has such a file. */
export function nearest(folder: string, file: string): string | undefined {
  for (let at = folder; ; at = dirname(at)) {
    if (existsSync(join(at, file))) return at;
    if (dirname(at) === at) return undefined;
  }
}
