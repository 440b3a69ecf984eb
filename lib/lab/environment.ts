import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { nodeBackend } from '../engine/binding';
import { native, tf } from '../engine/tf';

/** The checkout: paths in reports are relative to it. */
export const ROOT = join(__dirname, '../..');

/** What a run ran on: where two runs of one recipe differ in a bit, the reason is here. */
export interface Environment {
  lab: string;
  node: string;
  platform: string;
  cpu: string;
  cores: number;
  /** `TensorFlow 2.19.1`, or `pure JavaScript`. */
  engine: string;
  tfjs: string;
  /** Null outside a git checkout. */
  git: { commit: string; dirty: boolean } | null;
  /** sha256 of package-lock.json. */
  lockfile: string;
}

export function environment(): Environment {
  const processors = cpus();
  return {
    lab: (JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }).version,
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpu: processors[0]?.model ?? 'unknown',
    cores: processors.length,
    engine: native ? `TensorFlow ${nodeBackend().binding.TF_Version}` : 'pure JavaScript',
    tfjs: tf.version_core,
    git: gitState(),
    lockfile: createHash('sha256').update(readFileSync(join(ROOT, 'package-lock.json'))).digest('hex'),
  };
}

function gitState(): Environment['git'] {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    return { commit: git('rev-parse', 'HEAD'), dirty: git('status', '--porcelain', '--untracked-files=no') !== '' };
  } catch {
    return null; // no git, or an archive of the sources
  }
}
