import { basename } from 'node:path';
import type { Command } from 'commander';
import { openEngine } from '../engine/open';
import { readFixture } from '../measure/fixture';
import { checkParity } from '../measure/parity';
import { isNative } from '../tensor/tf';

/** `npm run parity -- FILE…`: our results against a float64 reference. A few seconds a file on the native engine. */
export function register(program: Command): void {
  program
    .command('parity')
    .description(
      'compare models, blocks, gradients and training with fixtures of the official code; exit 1 where they differ',
    )
    .argument(
      '<file...>',
      'fixtures: JSON files that describe weights and inputs by a rule, and the results in float64',
    )
    .action(run);
}

async function run(files: string[]): Promise<void> {
  const fixtures = files.map(file => ({ file, fixture: readFixture(file) }));
  await openEngine({ announce: true });
  console.log(
    `engine ${isNative() ? 'tensorflow' : 'pure JS'} | error = largest |ours − reference| / largest |reference| of a tensor`,
  );
  let failures = 0;
  for (const { file, fixture } of fixtures) {
    console.log(`\n${basename(file)}`);
    for (const { name, what, error, where, tolerance, passed } of checkParity(fixture)) {
      if (!passed) failures++;
      console.log(
        `  ${passed ? 'ok    ' : 'FAILED'} ${`${name}, ${what}`.padEnd(58)} ${error.toExponential(1).padStart(8)} ≤ ${tolerance.toExponential(0)}  (${where})`,
      );
    }
  }
  if (failures > 0) {
    console.log(`\n${failures} of the cases above differ by more than float32 explains.`);
    process.exitCode = 1;
  }
}
