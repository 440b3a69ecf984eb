import { type Estimate, interleave, type Plan, speedUp } from '../../lib/measure/latency';
import { median, quantile } from '../../lib/measure/statistics';
import { type Launch, type Running, start } from './contender';
import type { ContenderName, Target, Workload } from './workloads';

export interface ContenderResult {
  name: ContenderName;
  settings: string;
  versions: Record<string, string>;
  /** Seconds by round. */
  seconds: number[][];
  median: number;
  /** Half of all runs lie between these. */
  quartiles: [number, number];
  /** How many times as long as ours; null where ours did not run. */
  timesOurs: Estimate | null;
  /** Bytes, since the process began. */
  peakRss: number;
}

/** A target and what was reached. */
export interface Comparison {
  against: ContenderName;
  /** Their time over ours, which should be at least the limit; or our peak memory over theirs, at most the limit. */
  quantity: 'time' | 'memory';
  limit: number;
  ratio: number;
  passed: boolean;
}

export interface WorkloadResult {
  id: string;
  title: string;
  contenders: ContenderResult[];
  comparisons: Comparison[];
  /** Contenders that could not take part, and why. */
  failures: { name: ContenderName; reason: string }[];
}

/** How a contender's processes are found, and how long it runs. */
export interface Conditions {
  names: readonly ContenderName[];
  candidates(name: ContenderName): Launch[];
  plan: Plan;
  report(line: string): void;
}

/** Runs one workload: starts every contender, times them interleaved, and compares. One that fails is reported; the rest continue. */
export async function measure(
  workload: Workload,
  { names, candidates, plan, report }: Conditions,
): Promise<WorkloadResult> {
  const running: { name: ContenderName; process: Running }[] = [];
  const failures: WorkloadResult['failures'] = [];
  try {
    for (const name of names) {
      report(`${workload.id}: ${name} prepares`);
      try {
        running.push({ name, process: await fastest(candidates(name), plan) });
      } catch (error) {
        failures.push({ name, reason: (error as Error).message });
      }
    }
    report(`${workload.id}: ${plan.rounds} rounds of ${running.map(({ name }) => name).join(', ')}`);
    const seconds = await interleave(
      running.map(({ process }) => process),
      plan,
    );
    const ours = seconds[running.findIndex(({ name }) => name === 'ours')];
    const contenders: ContenderResult[] = [];
    for (const [i, { name, process }] of running.entries()) {
      const all = seconds[i].flat();
      contenders.push({
        name,
        settings: process.settings,
        versions: process.versions,
        seconds: seconds[i],
        median: median(all),
        quartiles: [quantile(all, 0.25), quantile(all, 0.75)],
        timesOurs: ours ? speedUp(seconds[i], ours) : null,
        peakRss: await process.peakRss(),
      });
    }
    const { id, title, targets } = workload;
    return { id, title, contenders, comparisons: targets.flatMap(target => compare(target, contenders)), failures };
  } finally {
    await Promise.all(running.map(({ process }) => process.stop()));
  }
}

/** Of a contender's candidates, the one with the lowest median over a short trial, still running. Throws if none of them works. */
async function fastest(launches: readonly Launch[], plan: Plan): Promise<Running> {
  if (launches.length === 1) return start(launches[0]);
  let best: { process: Running; seconds: number } | undefined;
  let failure: unknown;
  for (const launch of launches) {
    try {
      const next = await tryOut(launch, plan);
      const loser = best && best.seconds <= next.seconds ? next : best;
      if (loser !== next) best = next;
      await loser?.process.stop();
    } catch (error) {
      failure = error;
    }
  }
  if (!best) throw failure;
  return best.process;
}

async function tryOut(
  launch: Launch,
  { warmUp, perRound, settle }: Plan,
): Promise<{ process: Running; seconds: number }> {
  const process = await start(launch);
  try {
    await process.run(warmUp + settle);
    return { process, seconds: median(await process.run(perRound)) };
  } catch (error) {
    await process.stop();
    throw error;
  }
}

/** A target against what was measured; nothing where either side did not run. */
function compare({ against, speed, memory }: Target, contenders: readonly ContenderResult[]): Comparison[] {
  const ours = contenders.find(({ name }) => name === 'ours');
  const theirs = contenders
    .filter(({ name, timesOurs }) => timesOurs && [against].flat().includes(name))
    .sort((a, b) => a.timesOurs!.value - b.timesOurs!.value)[0];
  const comparisons: Comparison[] = [];
  if (!ours || !theirs?.timesOurs) return comparisons;
  const { name } = theirs;
  if (speed !== undefined) {
    const ratio = theirs.timesOurs.value;
    comparisons.push({ against: name, quantity: 'time', limit: speed, ratio, passed: ratio >= speed });
  }
  if (memory !== undefined) {
    const ratio = ours.peakRss / theirs.peakRss;
    comparisons.push({ against: name, quantity: 'memory', limit: memory, ratio, passed: ratio <= memory });
  }
  return comparisons;
}
