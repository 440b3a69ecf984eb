import { type Command, Option } from 'commander';
import { wholeNumber } from '../../../lib/cli/support/dataOptions';
import { hasGraphs, type KernelTiming } from '../../../lib/engine/binding';
import { openEngine } from '../../../lib/engine/open';
import { chromeTrace, totalsByOp, wallTime } from '../../../lib/measure/timeline';
import { UserError } from '../../../lib/util/errors';
import { writeFileAtomic } from '../../../lib/util/files';
import { textTable } from '../../../lib/util/tables';
import { counted } from '../../../lib/util/text';
import { createWork } from '../work';
import type { Task } from '../workloads';

interface Options {
  model: string;
  mode: Task['mode'];
  size: number;
  batch?: number;
  runs: number;
  top: number;
  trace?: string;
}

/** `npm run profile`: where the compiled graph spends its time, by TensorFlow's own step statistics. About 10 s. */
export function register(program: Command): void {
  program
    .command('profile')
    .description('time by op type in the compiled training step or prediction')
    .option('--model <name>', 'a name that summary takes', 'edgevit-xxs')
    .addOption(
      new Option('--mode <mode>', 'a whole training step with AdamW, or logits')
        .choices(['train', 'infer'])
        .default('train'),
    )
    .option('--size <pixels>', 'side of the images', wholeNumber, 224)
    .option('--batch <n>', 'images at once (default: 16 in training, 1 in inference)', wholeNumber)
    .option('--runs <n>', 'runs to average', wholeNumber, 5)
    .option('--top <n>', 'op types to list', wholeNumber, 25)
    .option('--trace <file>', "write the last run in Chrome's trace format (ui.perfetto.dev opens it)")
    .action(profile);
}

async function profile({
  model,
  mode,
  size,
  batch = mode === 'train' ? 16 : 1,
  runs,
  top,
  trace,
}: Options): Promise<void> {
  await openEngine({ announce: true });
  if (!hasGraphs())
    throw new UserError("Profiling needs TensorFlow with the lab's addon: npm run setup says what is missing.");
  const work = createWork({ model, mode, size, batch, classes: 102 }, 'compiled');
  for (let i = 0; i < WARM_UP; i++) work.run();
  const profiles = Array.from({ length: runs }, () => work.profile());
  console.log(
    `${model}, ${mode === 'train' ? 'training step' : 'inference'}, batch ${batch}, ${size} px, mean of ${counted(runs, 'run')}`,
  );
  printTotals(profiles, top);
  if (trace) {
    writeFileAtomic(trace, chromeTrace(profiles[runs - 1]));
    console.log(`\n${trace}: open it in ui.perfetto.dev or chrome://tracing`);
  }
}

/** Runs before the first that counts: the first traces the graph, the next still allocate. */
const WARM_UP = 3;

function printTotals(profiles: readonly KernelTiming[][], top: number): void {
  const totals = totalsByOp(profiles.flat());
  const busy = totals.reduce((sum, { total }) => sum + total, 0);
  const wall = profiles.reduce((sum, profile) => sum + wallTime(profile), 0);
  const perRun = (microseconds: number): string => (microseconds / profiles.length / 1000).toFixed(2);
  console.log(
    `${perRun(wall)} ms from the first kernel to the last, ${perRun(busy)} ms of kernels: ${(busy / wall).toFixed(2)} at a time\n`,
  );
  const listed = totals.slice(0, top);
  const rows = listed.map(({ op, count, total }) => ({
    op,
    count: (count / profiles.length).toFixed(0),
    ms: perRun(total),
    fraction: `${((100 * total) / busy).toFixed(1)} %`,
  }));
  console.log(textTable({ op: 'op', count: 'count', ms: 'ms', fraction: 'fraction' }, rows));
}
