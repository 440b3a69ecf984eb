import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { virtualEnvironment } from '../../util/python';

/** Exact versions of JupyterLab and all that it needs. */
export const REQUIREMENTS = join(__dirname, 'requirements.txt');

/**
 * The interpreter of a virtual environment in `folder` with these packages of the requirements (default: all), made on first use, and
 * again when the requirements change. Throws a UserError, in one sentence, where it cannot be made.
 */
export function pythonEnvironment(
  folder: string,
  packages: readonly string[] | undefined,
  say: (line: string) => void,
): Promise<string> {
  const wanted = packages ? ['--constraint', REQUIREMENTS, ...packages] : ['--requirement', REQUIREMENTS];
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--only-binary', ':all:'];
  return virtualEnvironment(
    {
      folder,
      whose: 'JupyterLab',
      contents: [readFileSync(REQUIREMENTS), packages?.join(' ') ?? ''],
      atLeast: [3, 11], // the oldest for which all of the requirements exist
      otherwise: "run the notebooks without Jupyter by 'npm run notebooks'",
      steps: [{ failed: 'could not install its packages', args: [...pip, ...wanted] }],
      announcement: `Making ${folder} with ${packages?.join(' and ') ?? 'JupyterLab'}; that takes a minute, once.`,
    },
    say,
  );
}
