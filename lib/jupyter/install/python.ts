import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { execute } from '../../engine/build/system';
import { UserError } from '../../util/errors';
import { writeFileAtomic } from '../../util/files';

/** Exact versions of JupyterLab and all that it needs. */
export const REQUIREMENTS = join(__dirname, 'requirements.txt');

const STAMP = 'complete.sha256';

/** The oldest Python for which all of the requirements exist. */
const MINIMUM = [3, 11] as const;

/**
 * The interpreter of a virtual environment in `folder` with these packages of the requirements (default: all), made on first use, and
 * again when the requirements change. One that was not finished has no stamp and is made anew. Throws a UserError, in
 * one sentence, where it cannot be made.
 */
export async function pythonEnvironment(
  folder: string,
  packages: readonly string[] | undefined,
  say: (line: string) => void,
): Promise<string> {
  const python = join(folder, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');
  const wanted = packages ? ['--constraint', REQUIREMENTS, ...packages] : ['--requirement', REQUIREMENTS];
  const digest = createHash('sha256')
    .update(readFileSync(REQUIREMENTS))
    .update(packages?.join(' ') ?? '')
    .digest('hex');
  const stamp = join(folder, STAMP);
  if (existsSync(python) && existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return python;

  const system = await findPython();
  say(`Making ${folder} with ${packages?.join(' and ') ?? 'JupyterLab'}; that takes a minute, once.`);
  rmSync(folder, { recursive: true, force: true });
  await step('could not make a virtual environment (on Debian and Ubuntu: apt install python3-venv)', system, [
    '-m',
    'venv',
    folder,
  ]);
  await step('could not install its packages', python, [
    '-m',
    'pip',
    'install',
    '--quiet',
    '--disable-pip-version-check',
    '--only-binary',
    ':all:',
    ...wanted,
  ]);
  writeFileAtomic(stamp, digest);
  return python;
}

async function findPython(): Promise<string> {
  for (const command of ['python3', 'python']) {
    const { code } = await execute(command, [
      '-c',
      `import sys, venv; sys.exit(sys.version_info[:2] < (${MINIMUM.join(', ')}))`,
    ]);
    if (code === 0) return command;
  }
  const needed = `Python ${MINIMUM.join('.')} or later with its venv module`;
  throw new UserError(
    `JupyterLab needs ${needed}, and neither python3 nor python is that: install it, or run the notebooks without Jupyter by 'npm run notebooks'.`,
  );
}

async function step(failed: string, command: string, args: readonly string[]): Promise<void> {
  const { code, output } = await execute(command, args);
  if (code === 0) return;
  const reason =
    output
      .trim()
      .split('\n')
      .filter(line => line.startsWith('ERROR'))
      .at(-1) ?? output.trim().split('\n').at(-1);
  throw new UserError(
    `The Python environment is not complete: ${failed}${reason ? `: ${reason.replace(/^ERROR: /, '')}` : ''}.`,
  );
}
