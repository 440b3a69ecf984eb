import { oneOf } from '../../lib/util/errors';
import { fuzz } from './fuzz';
import { TARGETS } from './targets';

/** `npm run fuzz -- safetensors|pth|bundle [COUNT [FROM]]`: 10,000 files with faults, which takes a minute or two. Exit 1 where one is a fault of ours. */
async function main([name = '', count = '10000', from = '0']: string[]): Promise<void> {
  const target = TARGETS[name];
  if (!target || !/^\d+$/.test(count + from)) {
    console.error(`npm run fuzz -- READER [COUNT [FROM]], where READER is ${oneOf(Object.keys(TARGETS))}.`);
    process.exitCode = 2;
    return;
  }
  const outcome = await fuzz(target, { count: Number(count), from: Number(from), say: line => console.log(line) });
  const { read, refused, slowest, grown, faults } = outcome;
  console.log(
    `${read} read, ${refused} refused; the slowest took ${slowest.toFixed(2)} s; grown by ${grown.toFixed(0)} MB`,
  );
  for (const fault of faults.slice(0, 20)) console.error(fault);
  if (faults.length > 0) process.exitCode = 1;
}

void main(process.argv.slice(2));
