import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { execute } from '../../lib/engine/build/system';
import { UserError } from '../../lib/util/errors';
import { writeFileAtomic } from '../../lib/util/files';

/** The peers' scripts. */
export const PEERS = join(__dirname, 'peers');

/** All that the peers need, and the part of it that Python's TensorFlow needs. Pinned; 2.8 GB and 1.2 GB of disk. */
export const REQUIREMENTS = { peers: 'requirements.txt', tensorflow: 'requirements-tensorflow.txt' } as const;
export type Requirements = keyof typeof REQUIREMENTS;

/** Where a virtual environment was completed for these very requirements: its interpreter, else undefined. */
export function completeEnvironment(folder: string, requirements: Requirements): string | undefined {
  const stamp = join(folder, STAMP);
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === digest(requirements) ? interpreter(folder) : undefined;
}

/**
 * A Python virtual environment with the requirements, made on first use and when they change (1–2 minutes). Its interpreter.
 * A build that was cut short has no stamp and is begun again. Throws UserError, in one sentence, where it can't be made.
 */
export async function pythonEnvironment(
  folder: string,
  requirements: Requirements,
  report: (line: string) => void,
): Promise<string> {
  const complete = completeEnvironment(folder, requirements);
  if (complete) return complete;
  const python = await findPython();
  report(`python environment: ${folder}, from ${REQUIREMENTS[requirements]} (the first time it takes a minute or two)`);
  rmSync(folder, { recursive: true, force: true });
  await must('make a virtual environment', python, ['-m', 'venv', folder]);
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary', ':all:'];
  await must('install the packages', interpreter(folder), [...pip, '-r', join(__dirname, REQUIREMENTS[requirements])]);
  if (requirements === 'peers')
    await must('make PyTorch independent of CUDA', interpreter(folder), [join(PEERS, 'without_cuda.py')]);
  writeFileAtomic(join(folder, STAMP), digest(requirements));
  return interpreter(folder);
}

const STAMP = 'requirements.sha256';

const interpreter = (folder: string): string => join(folder, 'bin', 'python');

function digest(requirements: Requirements): string {
  const hash = createHash('sha256');
  for (const file of requirements === 'peers' ? Object.values(REQUIREMENTS) : [REQUIREMENTS[requirements]])
    hash.update(readFileSync(join(__dirname, file)));
  return hash.digest('hex');
}

/** An interpreter of a version that has wheels of all that is pinned. */
async function findPython(): Promise<string> {
  const candidates = ['python3', 'python3.12', 'python3.11'];
  for (const python of candidates) {
    const { code, output } = await execute(python, [
      '-c',
      'import sys, venv; print(sys.version_info[:2] in ((3, 11), (3, 12)))',
    ]);
    if (code === 0 && output.trim() === 'True') return python;
  }
  throw new UserError(
    `The peers need Python 3.11 or 3.12 with its venv module, but none of ${candidates.join(', ')} is that.`,
  );
}

async function must(what: string, command: string, args: readonly string[]): Promise<void> {
  const { code, output } = await execute(command, args);
  if (code === 0) return;
  const reason = output
    .trim()
    .split('\n')
    .filter(line => !line.startsWith('WARNING'))
    .pop();
  throw new UserError(
    `The peers' environment is not complete: could not ${what}${reason ? ` (${reason.replace(/^ERROR: /, '').trim()})` : ''}.`,
  );
}
