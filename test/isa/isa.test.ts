import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { execute } from '../../lib/util/processes';
import '../allclose';
import { findMask, MASKS } from './masks';

const ROOT = join(__dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'edgevit-isa-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Report {
  description: string;
  losses: number[];
  evaluated: boolean;
  eager: number[];
  constant: number[];
  input: number[];
  exported: boolean;
}

// The addon that a Haswell needs is built before, at full speed and unseen by the mask.
beforeAll(async () => {
  if (process.arch !== 'x64') return;
  const setup = ['--import', 'tsx', 'lib/cli/main.ts', 'setup'];
  const env = { ...process.env, EDGEVIT_ISA: 'avx2' };
  const { code, output } = await execute(process.execPath, setup, { cwd: ROOT, env });
  if (code !== 0) throw new Error(output);
}, 1_200_000);

async function subset(
  name: string,
  command: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<Report> {
  const result = await execute(command, [...args, join(folder, name)], { cwd: ROOT, env: { ...process.env, ...env } });
  const line = result.output.split('\n').find(text => text.startsWith('{'));
  if (result.code !== 0 || !line) throw new Error(`${name}: ${result.signal ?? result.code}\n${result.output}`);
  return JSON.parse(line) as Report;
}

const PROGRAM = ['--import', 'tsx', join(__dirname, 'subset.ts')];

describe('on a lesser processor', () => {
  test.for(MASKS)('%s: trains, evaluates, predicts, compiles and exports', { timeout: 600_000 }, async (mask, ctx) => {
    const way = await findMask(mask, join(folder, 'mask'));
    if (typeof way === 'string') return ctx.skip(way);
    ctx.annotate(`by ${way.how}`);
    const [program, args] = way.command(process.execPath, ...PROGRAM);
    const report = await subset(mask, program, args, way.env);
    expect(report.description).toMatch(mask === 'haswell' ? /TensorFlow.*AVX2\)/ : /TensorFlow.*AVX-512\)/);
    expect(report.losses.length).toBeGreaterThan(0);
    expect(report.losses.every(Number.isFinite)).toBe(true);
    expect(report).toMatchObject({ evaluated: true, exported: true });
    for (const compiled of [report.constant, report.input]) expect(compiled).toBeAllclose(report.eager);
  });
});
