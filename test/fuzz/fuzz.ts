import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { UserError } from '../../lib/util/errors';
import { random } from '../../lib/util/random';
import type { Target } from './targets';

/** What a reader is held to: seconds of processor time for a file, and memory beside four times the file. */
export const LIMITS = { seconds: 1, megabytes: 64, times: 4 } as const;

export interface Outcome {
  read: number;
  refused: number;
  /** Seconds of processor time that the slowest file took. */
  slowest: number;
  /** MB by which the process grew over all of them. */
  grown: number;
  /** What was neither read nor refused by a UserError of one sentence within the limits. */
  faults: string[];
}

/** What made the files leaves garbage too, of buffers that V8 is in no hurry to collect: no reader is to be judged by that. */
const COLLECT_EVERY = 100;
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/**
 * Lets a reader have `count` files with faults, each of a stream of its own: file 17 is the same whatever the count. The file under way lies at
 * `path`, where a process that hangs or dies leaves it.
 */
export async function fuzz(
  target: Target,
  { count, from = 0, say = () => {} }: { count: number; from?: number; say?(line: string): void },
): Promise<Outcome> {
  const files = await target.files();
  const largest = Math.max(...files.map(({ length }) => length)) / 1e6;
  const folder = mkdtempSync(join(tmpdir(), 'fuzz-'));
  const path = join(folder, `mutated.${target.ending}`);
  const outcome: Outcome = { read: 0, refused: 0, slowest: 0, grown: 0, faults: [] };
  for (const file of files) {
    writeFileSync(path, file);
    await target.read(path).catch(() => {}); // what a first call loads is not the files'
  }
  say(`files are written to ${path}`);
  collect();
  // The greatest size so far may be that of what made the files, which a reader could hide behind.
  const [before, greatestBefore] = [process.memoryUsage.rss(), process.resourceUsage().maxRSS];
  let after = before;
  for (let i = from; i < from + count; i++) {
    if (i % COLLECT_EVERY === 0) collect();
    writeFileSync(path, await target.mutate(files, random('fuzz').fork(target.ending, i)));
    const began = process.cpuUsage();
    const error: unknown = await target.read(path).then(
      () => undefined,
      reason => reason,
    );
    const { user, system } = process.cpuUsage(began);
    after = Math.max(after, process.memoryUsage.rss());
    const seconds = (user + system) / 1e6;
    outcome.slowest = Math.max(outcome.slowest, seconds);
    if (error === undefined) outcome.read++;
    else outcome.refused++;
    const fault = faultOf(error) ?? (seconds > LIMITS.seconds ? `took ${seconds.toFixed(1)} s` : undefined);
    if (fault !== undefined) outcome.faults.push(`file ${i}: ${fault}`);
    if ((i + 1) % 1000 === 0) say(`${i + 1} files: ${outcome.read} read, ${outcome.refused} refused`);
  }
  outcome.grown = Math.max((process.resourceUsage().maxRSS - greatestBefore) / 1e3, (after - before) / 1e6);
  if (outcome.grown > LIMITS.megabytes + LIMITS.times * largest)
    outcome.faults.push(`the process grew by ${outcome.grown.toFixed(0)} MB`);
  rmSync(folder, { recursive: true });
  return outcome;
}

/** What is wrong with how a file was refused. Lines beyond the first list what is missing or unexpected. */
function faultOf(error: unknown): string | undefined {
  if (error === undefined) return undefined;
  if (!(error instanceof UserError)) return error instanceof Error ? (error.stack ?? error.message) : String(error);
  return error.message.length > 2000 || error.message.split('\n').length > 10 ? error.message : undefined;
}
