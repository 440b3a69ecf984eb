import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { completeEnvironment as complete, virtualEnvironment } from '../../lib/util/python';

/** The peers' scripts. */
export const PEERS = join(__dirname, 'peers');

/** All that the peers need, and the part of it that Python's TensorFlow needs. Pinned; 2.8 GB and 1.2 GB of disk. */
export const REQUIREMENTS = { peers: 'requirements.txt', tensorflow: 'requirements-tensorflow.txt' } as const;
export type Requirements = keyof typeof REQUIREMENTS;

/** The peers' requirements include those of Python's TensorFlow. */
const contents = (requirements: Requirements): Uint8Array[] =>
  (requirements === 'peers' ? Object.values(REQUIREMENTS) : [REQUIREMENTS[requirements]]).map(file =>
    readFileSync(join(__dirname, file)),
  );

/** Where a virtual environment was completed for these very requirements: its interpreter, else undefined. */
export function completeEnvironment(folder: string, requirements: Requirements): string | undefined {
  return complete({ folder, contents: contents(requirements) });
}

/**
 * A Python virtual environment with the requirements, made on first use and when they change (1–2 minutes). Its interpreter.
 * Throws UserError, in one sentence, where it can't be made.
 */
export function pythonEnvironment(
  folder: string,
  requirements: Requirements,
  report: (line: string) => void,
): Promise<string> {
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary', ':all:'];
  return virtualEnvironment(
    {
      folder,
      whose: 'The benchmark',
      contents: contents(requirements),
      atLeast: [3, 11],
      below: [3, 13], // TensorFlow 2.19 has wheels up to Python 3.12
      steps: [
        { failed: 'could not install the packages', args: [...pip, '-r', join(__dirname, REQUIREMENTS[requirements])] },
        ...(requirements === 'peers'
          ? [{ failed: 'could not make PyTorch independent of CUDA', args: [join(PEERS, 'without_cuda.py')] }]
          : []),
      ],
      announcement: `python environment: ${folder}, from ${REQUIREMENTS[requirements]} (the first time it takes a minute or two)`,
    },
    report,
  );
}
