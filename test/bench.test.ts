import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type Launch, start, THREADS } from '../experiments/bench/contender';
import { candidates, withSavedModel } from '../experiments/bench/contenders';
import { measure } from '../experiments/bench/measure';
import { completeEnvironment, PEERS } from '../experiments/bench/python';
import { CONTENDERS, type ContenderName, type Task, WORKLOADS, type Workload } from '../experiments/bench/workloads';
import { hasGraphs } from '../lib/engine/binding';
import { createModel } from '../lib/model/registry';
import { execute } from '../lib/util/processes';

const root = join(__dirname, '..');
const scratch = mkdtempSync(join(tmpdir(), 'edgevit-bench-test-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const standIn = (name: string, seconds: number, mood = ''): Launch => ({
  name,
  command: process.execPath,
  args: [join(__dirname, 'standIn.cjs'), String(seconds), mood],
  prepare: {},
});

/** Every contender does this in a moment. */
const SMALL: Task = { model: 'edgevit-xxs', mode: 'train', batch: 2, size: 32, classes: 10 };

async function use(launch: Launch): Promise<{ settings: string; seconds: readonly number[]; rss: number }> {
  const contender = await start(launch);
  try {
    return { settings: contender.settings, seconds: await contender.run(3), rss: await contender.peakRss() };
  } finally {
    await contender.stop();
  }
}

describe('a contender', () => {
  it('prepares with the threads of all, runs, and tells its memory', async () => {
    const { settings, rss } = await use(standIn('a', 2));
    expect(settings).toBe(`2 s, ${THREADS} threads`);
    expect(rss).toBe(2e9);
  });

  it('that fails or dies is an error with its reason', async () => {
    await expect(use(standIn('a', 1, 'fail'))).rejects.toThrow('no such model');
    await expect(use(standIn('b', 1, 'die'))).rejects.toThrow(/exit code 3.*out of memory/);
    await expect(use({ ...standIn('c', 1), command: '/nowhere' })).rejects.toThrow('/nowhere');
  });

  it('speaks the protocol from Python, whatever its libraries print', async ctx => {
    const peer = join(scratch, 'peer.py');
    writeFileSync(
      peer,
      [
        'import sys',
        `sys.path.insert(0, ${JSON.stringify(PEERS)})`,
        'from protocol import serve',
        'def prepare(request):',
        '    print("a banner")',
        '    if request["fail"]: raise ValueError("bad size")',
        '    return (lambda: print("noise")), {"versions": {"python": "3"}, "settings": str(request["threads"])}',
        'serve(prepare)',
      ].join('\n'),
    );
    if ((await execute('python3', ['--version'])).code !== 0) return ctx.skip('there is no python3');
    const launch = (fail: boolean): Launch => ({ name: 'python', command: 'python3', args: [peer], prepare: { fail } });
    const { settings, seconds, rss } = await use(launch(false));
    expect(settings).toBe(String(THREADS));
    expect(seconds).toHaveLength(3);
    expect(rss).toBeGreaterThan(1e6);
    await expect(use(launch(true))).rejects.toThrow('ValueError: bad size');
  });
});

describe('measure', () => {
  const workload: Workload = {
    id: 'w',
    title: 'work',
    task: SMALL,
    contenders: CONTENDERS,
    targets: [
      { against: 'PyTorch', speed: 1.4, memory: 1.5 },
      { against: 'torch.compile', speed: 3.1 },
      { against: ['torch.compile', 'PyTorch, bfloat16', 'PyTorch'], speed: 2.5 },
      { against: 'ONNX Runtime', speed: 1 },
    ],
  };
  const launches: Partial<Record<ContenderName, Launch[]>> = {
    ours: [standIn('ours', 1)],
    PyTorch: [
      standIn('slow', 2.5),
      standIn('fast', 2),
      standIn('slower', 3),
      standIn('failing', 1, 'fail'),
      standIn('dying', 1, 'die'),
    ],
    'torch.compile': [standIn('compiled', 3)],
    'ONNX Runtime': [standIn('broken', 1, 'fail')],
  };

  it('lets the best candidate compete, compares with the targets, and continues without one that fails', async () => {
    const names = Object.keys(launches) as ContenderName[];
    const result = await measure(workload, {
      names,
      candidates: name => launches[name]!,
      plan: { rounds: 2, perRound: 3, warmUp: 2, settle: 1 },
      report: () => {},
    });
    expect(result.contenders.map(({ name, settings, median }) => [name, settings, median])).toEqual([
      ['ours', '1 s, 2 threads', 1],
      ['PyTorch', '2 s, 2 threads', 2],
      ['torch.compile', '3 s, 2 threads', 3],
    ]);
    expect(result.comparisons).toEqual([
      { against: 'PyTorch', quantity: 'time', limit: 1.4, ratio: 2, passed: true },
      { against: 'PyTorch', quantity: 'memory', limit: 1.5, ratio: 0.5, passed: true },
      { against: 'torch.compile', quantity: 'time', limit: 3.1, ratio: 3, passed: false },
      { against: 'PyTorch', quantity: 'time', limit: 2.5, ratio: 2, passed: false },
    ]);
    expect(result.failures).toEqual([{ name: 'ONNX Runtime', reason: 'broken: no such model' }]);
  });
});

describe('the workloads', () => {
  it.each(WORKLOADS)('$id can be built', ({ task }) => {
    expect(createModel(task.model, { numClasses: task.classes, size: task.size }).params.length).toBeGreaterThan(0);
  });

  it.skipIf(!hasGraphs()).each<[ContenderName, Task['mode']]>([
    ['ours', 'train'],
    ['ours', 'infer'],
    ['stock tfjs-node', 'train'],
    ['stock tfjs-node', 'infer'],
  ])('%s can %s', async (name, mode) => {
    const { seconds, rss } = await use(candidates(name, { ...SMALL, mode }, { savedModel: '' })[0]!);
    expect(seconds).toHaveLength(3);
    expect(rss).toBeGreaterThan(1e8);
  });
});

const python = completeEnvironment(join(root, '.venv-bench'), 'peers');

describe.skipIf(!python)('the peers, where their environment is complete', () => {
  // PyTorch's threads wait for each other spinning, which takes minutes where other tests have the cores.
  const env = { OMP_NUM_THREADS: '1', OMP_WAIT_POLICY: 'passive' };

  it('compute the same model as the fixtures', async () => {
    const fixtures = [
      'edgevit_xxs',
      'edgevit_xs',
      'edgevit_s',
      'seed_single_stage',
      'blocks',
      'lgl_grad',
      'tiny_train',
    ].map(name => join(__dirname, 'fixtures', `${name}.json`));
    const { code, output } = await execute(python!, [join(PEERS, 'check.py'), ...fixtures], {
      env: { ...process.env, ...env },
    });
    expect(output).not.toContain('FAIL');
    expect(code).toBe(0);
  });

  it.skipIf(!hasGraphs()).each<[ContenderName, Task['mode']]>([
    ['PyTorch', 'train'],
    ['PyTorch', 'infer'],
    ['PyTorch, bfloat16', 'train'],
    ['PyTorch, bfloat16', 'infer'],
    ['ONNX Runtime', 'infer'],
    ['ONNX Runtime, our export', 'infer'],
    ['TensorFlow in Python', 'train'],
    ['TensorFlow in Python', 'infer'],
  ])('%s can %s', async (name, mode) => {
    const task = { ...SMALL, mode };
    await withSavedModel(task, async savedModel => {
      for (const launch of candidates(name, task, { python, savedModel }))
        expect((await use({ ...launch, env: { ...launch.env, ...env } })).seconds).toHaveLength(3);
    });
  });
});
