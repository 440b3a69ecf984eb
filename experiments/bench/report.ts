import { cpus, release, totalmem } from 'node:os';
import type { Estimate } from '../../lib/measure/latency';
import { THREADS } from './contender';
import type { WorkloadResult } from './measure';

export interface Machine {
  cpu: string;
  cores: number;
  /** Bytes. */
  memory: number;
  system: string;
  node: string;
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
  return { cpu: cpus()[0]?.model.trim() ?? 'unknown', cores: cpus().length, memory: totalmem(), system: `${process.platform} ${release()}`, node: process.version };
}

export function formatMachine({ cpu, cores, memory, system, node }: Machine): string {
  return `${cpu} | ${cores} cores, ${THREADS} threads each | ${gigabytes(memory)} | ${system} | Node ${node}`;
}

/** A workload's contenders: how long a run takes, how many times as long as ours, and the most memory it had. */
export function formatWorkload({ title, contenders, failures }: WorkloadResult): string {
  const rows = contenders.map(({ name, median, quartiles, timesOurs, peakRss, settings, versions }) => [
    name, milliseconds(median), quartiles.map(milliseconds).join(' – '), timesOurs ? times(timesOurs) : '', gigabytes(peakRss),
    [...Object.entries(versions).map(([what, version]) => `${what} ${version}`), settings].join(', '),
  ]);
  const header = ['', 'median', 'half of all runs', '× ours (95 %)', 'peak memory', ''];
  return [title, ...formatTable([header, ...rows]), ...failures.map(({ name, reason }) => `  ${name} did not run: ${reason}`)].join('\n');
}

/** All targets in one table; undefined where there was nothing to compare with. */
export function formatTargets(workloads: readonly WorkloadResult[]): string | undefined {
  const rows = workloads.flatMap(({ title, comparisons }) => comparisons.map(({ against, quantity, limit, ratio, passed }) => [
    quantity === 'time' ? title : `${title}, peak memory`, against, `${ratio.toFixed(2)}×`, `${quantity === 'time' ? '≥' : '≤'} ${limit.toFixed(1)}×`, passed ? 'pass' : 'MISS',
  ]));
  return rows.length === 0 ? undefined : formatTable([['work', 'against', 'reached', 'target', ''], ...rows]).join('\n');
}

/** The first column and the last are text, aligned left; those between are figures, aligned right. */
function formatTable(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map(row => row[column].length)));
  return rows.map(row => `  ${row.map((cell, column) => (column === 0 || column === row.length - 1 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]))).join('   ')}`.trimEnd());
}

const milliseconds = (seconds: number): string => `${(1000 * seconds).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(2)} GB`;
const times = ({ value, low, high }: Estimate): string => `${value.toFixed(2)} (${low.toFixed(2)} – ${high.toFixed(2)})`;
