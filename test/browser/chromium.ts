import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, chromium } from 'playwright-core';
import { UserError } from '../../lib/util/errors';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** The system's own Chromium, or the one that CHROMIUM names. Throws a UserError where there is none. */
export function launchChromium(): Promise<Browser> {
  const folders = (process.env.PATH ?? '').split(delimiter);
  const executablePath =
    process.env.CHROMIUM ?? NAMES.flatMap(name => folders.map(folder => join(folder, name))).find(existsSync);
  if (!executablePath)
    throw new UserError(`There is no Chromium (on Debian: apt install chromium); looked for ${NAMES.join(', ')}.`);
  return chromium.launch({ executablePath });
}
