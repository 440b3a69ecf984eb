import { cpus, loadavg, release, totalmem } from 'node:os';
import type { Estimate } from '../../lib/measure/latency';
import { alignColumns } from '../../lib/util/tables';
import { counted } from '../../lib/util/text';
import { THREADS } from './contender';
import type { WorkloadResult } from './measure';

export interface Machine {
  cpu: string;
  cores: number;
  /** Bytes. */
  memory: number;
  system: string;
  node: string;
  /** Processes that wanted a core in the minute before, on average. */
  load: number;
}

/** What `--json` writes. */
export interface BenchResult {
  started: string;
  machine: Machine;
  /** Of every contender. */
  threads: number;
  workloads: WorkloadResult[];
}

export function machine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memory: totalmem(),
    system: `${process.platform} ${release()}`,
    node: process.version,
    load: loadavg()[0],
  };
}

export function formatMachine({ cpu, cores, memory, system, node }: Machine): string {
  return `${cpu} | ${counted(cores, 'core')}, ${counted(THREADS, 'thread')} each | ${gigabytes(memory)} | ${system} | Node ${node}`;
}

/** What to say where others use the machine; undefined where it is idle. */
export function formatBusy({ load, cores }: Machine): string | undefined {
  if (load < 0.25 * cores) return undefined;
  return `The machine is busy (load ${load.toFixed(1)} on ${counted(cores, 'core')}): these figures will mean little, least of all for PyTorch, whose threads wait for each other spinning.`;
}

/** A workload's contenders: how long a run takes, how many times as long as ours, and the most memory it had. */
export function formatWorkload({ title, contenders, failures }: WorkloadResult): string {
  const rows = contenders.map(({ name, median, quartiles, timesOurs, peakRss, settings, versions }) => [
    name,
    milliseconds(median),
    quartiles.map(milliseconds).join(' – '),
    timesOurs ? times(timesOurs) : '',
    gigabytes(peakRss),
    [...Object.entries(versions).map(([what, version]) => `${what} ${version}`), settings].join(', '),
  ]);
  const header = ['', 'median', 'half of all runs', '× ours (95 %)', 'peak memory', ''];
  return [
    title,
    ...formatTable([header, ...rows], [0, 5]),
    ...failures.map(({ name, reason }) => `  ${name} did not run: ${reason}`),
  ].join('\n');
}

/** All targets in one table; undefined where there was nothing to compare with. */
export function formatTargets(workloads: readonly WorkloadResult[]): string | undefined {
  const rows = workloads.flatMap(({ title, comparisons }) =>
    comparisons.map(({ against, quantity, limit, ratio, passed }) => [
      quantity === 'time' ? title : `${title}, peak memory`,
      against,
      `${ratio.toFixed(2)}×`,
      `${quantity === 'time' ? '≥' : '≤'} ${limit.toFixed(1)}×`,
      passed ? 'pass' : 'MISS',
    ]),
  );
  return rows.length === 0
    ? undefined
    : formatTable([['work', 'against', 'reached', 'target', ''], ...rows], [0, 1, 4]).join('\n');
}

/** Aligned columns: those of text left, the figures right. */
function formatTable(rows: readonly (readonly string[])[], text: readonly number[]): string[] {
  return alignColumns(
    rows,
    rows[0].map((_, column) => !text.includes(column)),
    { gap: '   ' },
  ).map(line => `  ${line}`.trimEnd());
}

const milliseconds = (seconds: number): string => `${(1000 * seconds).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(2)} GB`;
const times = ({ value, low, high }: Estimate): string =>
  `${value.toFixed(2)} (${low.toFixed(2)} – ${high.toFixed(2)})`;
