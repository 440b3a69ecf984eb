import { resolve } from 'node:path';
import type { Command } from 'commander';
import { hasGraphs } from '../engine/binding';
import { openEngine } from '../engine/open';
import { allChecks, digestParts, firstDifference, formatGolden, GOLDEN, readGolden } from '../measure/golden/golden';
import { here } from '../runs/console';
import { NUMERICS } from '../runs/environment';
import { Failure, UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import { counted } from '../util/text';
import { setThreads } from '../util/threads';
import { verifyAll } from './support/combinations';
import { threadCount } from './support/dataOptions';
import { verifyRows } from './support/publishedRows';

interface Flags {
  golden: string;
  all?: boolean;
  only?: string;
  threads?: number;
  update?: boolean;
  results?: string | true;
  data?: string;
}

/** `npm run verify`: exit status 0 where this machine computes the golden digests, 1 where it does not. Under 2 minutes on two cores. */
export function register(program: Command): void {
  program
    .command('verify')
    .description('compute kernels, logits, gradients and trainings of test/golden.json again, and compare their sha256')
    .option('--only <pattern>', 'checks whose names match a regular expression: ^kernel, training sgd')
    .option('--threads <n>', 'of TensorFlow inside an op, on which nothing should depend', threadCount)
    .option('--all', 'by 1, 2 and 3 threads, every instruction set, compiler and Node version that can be had here')
    .option(
      '--results [rows]',
      'train so many published rows again, or the one of a name (default: 1): lgl-petals/full/0',
    )
    .option('--data <data>', 'with --results: where the images of rows are that do not come with the lab: folder:PATH')
    .option('--golden <file>', 'where the expected digests are', GOLDEN)
    .option('--update', 'write what this machine computes into that file')
    .action(async ({ all = false, only, threads, update = false, golden, results, data }: Flags) => {
      const pattern = patternOf(only);
      if (results !== undefined) {
        if (all || only !== undefined || update) throw new UserError('--results goes with --data and --threads alone.');
        await start(threads);
        process.exitCode = (await verifyRows(results === true ? '1' : results, data, line => console.log(line)))
          ? 0
          : 1;
        return;
      }
      if (all && (update || threads !== undefined || resolve(golden) !== GOLDEN))
        throw new UserError(
          '--all goes with --only alone: it combines threads itself, and compares with test/golden.json.',
        );
      if (update && only !== undefined && resolve(golden) === GOLDEN)
        throw new UserError('--update writes all checks: leave --only out.');
      if (all) process.exitCode = (await verifyAll(only, line => console.log(line))) ? 0 : 1;
      else await verify(resolve(golden), pattern, update, threads);
    });
}

function patternOf(text: string | undefined): RegExp {
  try {
    return new RegExp(text ?? '');
  } catch (error) {
    throw new UserError(`--only is '${text}', which is no regular expression: ${(error as Error).message}.`);
  }
}

async function start(threads: number | undefined): Promise<void> {
  if (threads !== undefined) setThreads(threads); // before the engine is opened
  await openEngine({ announce: true });
  if (!hasGraphs())
    throw new Failure('What is compared was computed by the kernels in TensorFlow, which is not here: npm run setup.');
}

async function verify(file: string, pattern: RegExp, update: boolean, threads: number | undefined): Promise<void> {
  const golden = update ? undefined : readGolden(file);
  if (golden && golden.numerics !== NUMERICS)
    throw new Failure(
      `${here(file)} holds digests of numerics ${golden.numerics}, and this checkout computes by numerics ${NUMERICS}: npm run verify -- --update writes them anew.`,
    );
  const checks = allChecks().filter(({ name }) => pattern.test(name));
  if (checks.length === 0) throw new UserError(`No check matches '${pattern.source}'.`);
  await start(threads);
  const found: Record<string, { sha256: string; parts: Record<string, string> }> = {};
  let same = 0;
  for (const { name, run } of checks) {
    const begin = performance.now();
    const parts = await run();
    const sha256 = digestParts(parts);
    found[name] = { sha256, parts };
    const expected = golden?.checks[name];
    const difference = !golden
      ? undefined
      : expected
        ? firstDifference(expected.parts, parts)
        : 'not among the golden digests';
    if (difference === undefined) same++;
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    console.log(
      `${difference === undefined ? 'same     ' : 'DIFFERENT'} ${name.padEnd(28)} ${sha256.slice(0, 12)} ${seconds.padStart(5)} s${difference === undefined ? '' : `\n          ${difference}`}`,
    );
  }
  if (update) {
    writeFileAtomic(file, formatGolden({ numerics: NUMERICS, checks: found }));
    console.log(`${counted(checks.length, 'check')} written into ${here(file)}`);
    return;
  }
  console.log(`${same} of ${counted(checks.length, 'check')} the same to the byte (numerics ${NUMERICS})`);
  process.exitCode = same === checks.length ? 0 : 1;
}
