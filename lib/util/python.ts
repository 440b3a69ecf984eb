import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from './errors';
import { writeFileAtomic } from './files';
import { execute } from './processes';

export interface VirtualEnvironment {
  folder: string;
  /** What needs it, as the beginning of a sentence: `JupyterLab needs …`. */
  whose: string;
  /** All that decides what is installed: another text makes the environment anew. */
  contents: readonly (string | Uint8Array)[];
  /** Python versions that have wheels of everything, [major, minor]. */
  atLeast: readonly [number, number];
  below?: readonly [number, number];
  /** What to do instead where there is no Python, as the end of a sentence. */
  otherwise?: string;
  /** Arguments of its interpreter, in order, after the environment was made; each with what could not be done where it fails. */
  steps: readonly { failed: string; args: readonly string[] }[];
  /** Said before it is made. */
  announcement: string;
}

/** Names of interpreters, the usual one first. */
const CANDIDATES = ['python3', 'python', 'python3.13', 'python3.12', 'python3.11'];

const interpreterOf = (folder: string): string =>
  join(folder, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');

const stampOf = (folder: string): string => join(folder, 'complete.sha256');

function digest(contents: VirtualEnvironment['contents']): string {
  const hash = createHash('sha256');
  for (const part of contents) hash.update(part);
  return hash.digest('hex');
}

/** The interpreter of an environment that was completed with these contents, else undefined. */
export function completeEnvironment({
  folder,
  contents,
}: Pick<VirtualEnvironment, 'folder' | 'contents'>): string | undefined {
  const [python, stamp] = [interpreterOf(folder), stampOf(folder)];
  const isComplete = existsSync(python) && existsSync(stamp) && readFileSync(stamp, 'utf8') === digest(contents);
  return isComplete ? python : undefined;
}

/**
 * The interpreter of a virtual environment, made on first use and again when its contents change. One that was not finished has no stamp and
 * is made anew. Throws a UserError, in one sentence, where it cannot be made.
 */
export async function virtualEnvironment(
  environment: VirtualEnvironment,
  say: (line: string) => void,
): Promise<string> {
  const complete = completeEnvironment(environment);
  if (complete) return complete;
  const { folder, whose, contents, steps, announcement } = environment;
  const system = await findPython(environment);
  say(announcement);
  rmSync(folder, { recursive: true, force: true });
  const run = async (failed: string, command: string, args: readonly string[]): Promise<void> => {
    const { code, output } = await execute(command, args);
    if (code === 0) return;
    const lines = output.trim().split('\n');
    const reason =
      lines.findLast(line => line.startsWith('ERROR')) ?? lines.findLast(line => !line.startsWith('WARNING'));
    throw new UserError(
      `${whose}'s Python environment is not complete: ${failed}${reason ? `: ${reason.replace(/^ERROR: /, '').trim()}` : ''}.`,
    );
  };
  const venv = ['-m', 'venv', folder];
  await run('could not make a virtual environment (on Debian and Ubuntu: apt install python3-venv)', system, venv);
  for (const { failed, args } of steps) await run(failed, interpreterOf(folder), args);
  writeFileAtomic(stampOf(folder), digest(contents));
  return interpreterOf(folder);
}

async function findPython({ whose, atLeast, below, otherwise }: VirtualEnvironment): Promise<string> {
  const upper = below ? ` and sys.version_info[:2] < (${below.join(', ')})` : '';
  const fits = `import sys, venv; sys.exit(not (sys.version_info[:2] >= (${atLeast.join(', ')})${upper}))`;
  for (const command of CANDIDATES) if ((await execute(command, ['-c', fits])).code === 0) return command;
  throw new UserError(
    `${whose} needs Python ${atLeast.join('.')} or later${below ? `, below ${below.join('.')},` : ''} with its venv module, and none of ${CANDIDATES.join(', ')} is that: install it${otherwise ? `, or ${otherwise}` : ''}.`,
  );
}
