import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Machine, machine } from '../engine/machine';
import { tf } from '../tensor/tf';
import { ROOT } from '../util/root';
import { threadsPerOp } from '../util/threads';
import { codeDigest } from './code';

export { ROOT };

/** What a run ran on: where two runs of one recipe differ in a bit, the reason is here. */
export interface Environment extends Machine {
  lab: string;
  platform: string;
  /** Of TensorFlow inside one op: sums of another number of threads round otherwise. */
  threads: number;
  tfjs: string;
  /** Null outside a git checkout. */
  git: { commit: string; dirty: boolean } | null;
  /** sha256 of package-lock.json. */
  lockfile: string;
  /** `codeDigest`: of the sources that decide what a run computes. */
  code: string;
}

export function environment(): Environment {
  return {
    lab: (JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }).version,
    ...machine(),
    platform: `${process.platform} ${process.arch}`,
    threads: threadsPerOp(),
    tfjs: tf.version_core,
    git: gitState(),
    lockfile: createHash('sha256')
      .update(readFileSync(join(ROOT, 'package-lock.json')))
      .digest('hex'),
    code: codeDigest(),
  };
}

function gitState(): Environment['git'] {
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    return { commit: git('rev-parse', 'HEAD'), dirty: git('status', '--porcelain', '--untracked-files=no') !== '' };
  } catch {
    return null; // no git, or an archive of the sources
  }
}
