import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { inScratch } from '../../util/folders';
import { virtualEnvironment } from '../../util/python';

/** Exact versions of JupyterLab and all that it needs, each with the sums of its files. */
export const REQUIREMENTS = join(__dirname, 'requirements.txt');

/**
 * The interpreter of a virtual environment in `folder` with these packages of the requirements, whose needs have to be among them
 * (default: all), made on first use, and again when the requirements change. pip verifies every file that it installs. Throws a UserError,
 * in one sentence, where it cannot be made.
 */
export function pythonEnvironment(
  folder: string,
  packages: readonly string[] | undefined,
  say: (line: string) => void,
): Promise<string> {
  const all = readFileSync(REQUIREMENTS, 'utf8');
  const made = (file: string, text: string): Promise<string> =>
    virtualEnvironment(
      {
        folder,
        whose: 'JupyterLab',
        contents: [text],
        atLeast: [3, 11], // the oldest for which all of the requirements exist
        otherwise: "run the notebooks without Jupyter by 'npm run notebooks'",
        steps: [{ failed: 'could not install its packages', args: [...INSTALL, '--requirement', file] }],
        announcement: `Making ${folder} with ${packages?.[0]?.split(' ')[0] ?? 'JupyterLab'}; that takes a minute, once.`,
      },
      say,
    );
  if (!packages) return made(REQUIREMENTS, all);
  return inScratch(dirname(folder), scratch => {
    const [file, text] = [join(scratch, 'requirements.txt'), packages.map(name => entry(all, name)).join('')];
    writeFileSync(file, text);
    return made(file, text);
  });
}

const INSTALL = [
  ...['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check'],
  ...['--only-binary', ':all:', '--require-hashes'],
];

/** A package's lines in the requirements; where they do not have it the text itself, which pip refuses without a version and a sum. */
function entry(requirements: string, name: string): string {
  return new RegExp(`^${name}==(.*\\\\\\n)*.*\\n`, 'm').exec(requirements)?.[0] ?? `${name}\n`;
}
