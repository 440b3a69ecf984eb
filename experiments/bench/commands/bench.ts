import { join } from 'node:path';
import type { Command } from 'commander';
import { wholeNumber } from '../../../lib/cli/support/dataOptions';
import { ensureEngine } from '../../../lib/engine/build/install';
import type { Plan } from '../../../lib/measure/latency';
import { oneOf, UserError } from '../../../lib/util/errors';
import { writeFileAtomic } from '../../../lib/util/files';
import { ROOT } from '../../../lib/util/root';
import { THREADS } from '../contender';
import { candidates, isPeer, withSavedModel } from '../contenders';
import { measure, type WorkloadResult } from '../measure';
import { pythonEnvironment } from '../python';
import { type BenchResult, formatBusy, formatMachine, formatTargets, formatWorkload, machine } from '../report';
import { WORKLOADS, type Workload } from '../workloads';

interface Options {
  peers?: boolean;
  only?: string;
  quick?: boolean;
  rounds?: number;
  json?: string;
}

/**
 * `npm run bench`: how fast the lab trains and predicts, against stock tfjs-node (about 5 minutes on 2 cores); with `--peers`
 * also against PyTorch, ONNX Runtime and Python's TensorFlow (about an hour, after a download of 0.9 GB the first time).
 * Leave the machine alone meanwhile.
 */
export function register(program: Command): void {
  program
    .command('bench')
    .description('times training and inference, compiled against op by op, and against other frameworks')
    .option(
      '--peers',
      "also PyTorch (eager, compiled, bfloat16), ONNX Runtime and Python's TensorFlow, in an environment made on first use",
    )
    .option('--only <workloads>', `some of ${WORKLOADS.map(({ id }) => id).join(', ')}; separated by commas`)
    .option('--quick', 'two short rounds: to see that it works, not to measure')
    .option('--rounds <n>', 'rounds in which all contenders run interleaved (default: 9)', wholeNumber)
    .option('--json <file>', 'write every timing, the machine and the versions')
    .action(bench);
}

async function bench({ peers = false, only, quick = false, rounds, json }: Options): Promise<void> {
  const workloads = select(only);
  if ((await ensureEngine()).kind !== 'tensorflow')
    throw new UserError("The benchmark needs TensorFlow with the lab's addon: npm run setup says what is missing.");
  const report = (line: string): void => console.error(line);
  const here = machine(); // before our own work loads it
  const python = peers ? await pythonEnvironment(join(ROOT, '.venv-bench'), 'peers', report) : undefined;
  const result: BenchResult = { started: new Date().toISOString(), machine: here, threads: THREADS, workloads: [] };
  console.log(formatMachine(here));
  const busy = formatBusy(here);
  if (busy) report(busy);
  for (const workload of workloads) {
    const measured = await run(workload, python, planFor(workload, quick, rounds), report);
    result.workloads.push(measured);
    console.log(`\n${formatWorkload(measured)}`);
    if (json) writeFileAtomic(json, `${JSON.stringify(result, null, 2)}\n`);
  }
  const targets = formatTargets(result.workloads);
  if (targets) console.log(`\n${targets}`);
  if (result.workloads.some(({ failures }) => failures.length > 0)) process.exitCode = 1;
}

async function run(
  workload: Workload,
  python: string | undefined,
  plan: Plan,
  report: (line: string) => void,
): Promise<WorkloadResult> {
  const names = workload.contenders.filter(name => python !== undefined || !isPeer(name));
  const measureWith = (savedModel: string) =>
    measure(workload, {
      names,
      candidates: name => candidates(name, workload.task, { python, savedModel }),
      plan,
      report,
    });
  return python ? withSavedModel(workload.task, measureWith) : measureWith('');
}

/** Training steps take half a second, predictions a hundredth of that: a turn is about as long in both. */
function planFor({ task }: Workload, quick: boolean, rounds?: number): Plan {
  if (quick) return { rounds: rounds ?? 2, perRound: task.mode === 'train' ? 1 : 5, warmUp: 2, settle: 1 };
  return {
    rounds: rounds ?? 9,
    ...(task.mode === 'train' ? { perRound: 2, warmUp: 3, settle: 1 } : { perRound: 40, warmUp: 50, settle: 10 }),
  };
}

function select(only?: string): readonly Workload[] {
  if (only === undefined) return WORKLOADS;
  return only.split(',').map(id => {
    const workload = WORKLOADS.find(candidate => candidate.id === id);
    if (!workload)
      throw new UserError(`Unknown workload '${id}': allowed are ${oneOf(WORKLOADS.map(({ id }) => id))}.`);
    return workload;
  });
}
