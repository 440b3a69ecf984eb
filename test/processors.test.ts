import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { processors } from '../lib/util/processors';
import { threadsPerOp } from '../lib/util/threads';

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'edgevit-cgroup-'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true, force: true });
});

const V2 = '0::/box/job\n';
const V1 = '12:memory:/docker/3f\n4:cpu,cpuacct:/docker/3f\n1:name=systemd:/docker/3f\n';

describe('processors on 64 cores', () => {
  test.each<[string, Record<string, string>, number]>([
    ['without cgroups', {}, 64],
    ['v2 without a limit', { 'proc/self/cgroup': V2, 'sys/fs/cgroup/box/job/cpu.max': 'max 100000\n' }, 64],
    ['v2 with --cpus=2', { 'proc/self/cgroup': V2, 'sys/fs/cgroup/box/job/cpu.max': '200000 100000\n' }, 2],
    [
      'v2, the parent tighter',
      {
        'proc/self/cgroup': V2,
        'sys/fs/cgroup/box/job/cpu.max': '800000 100000\n',
        'sys/fs/cgroup/box/cpu.max': '300000 100000\n',
      },
      3,
    ],
    [
      'v2 in a container of its own namespace',
      { 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/cpu.max': '400000 100000\n' },
      4,
    ],
    [
      'v2 seen from inside by its path outside',
      { 'proc/self/cgroup': '0::/../../docker/3f\n', 'sys/fs/cgroup/cpu.max': '400000 100000\n' },
      4,
    ],
    [
      'a file that cannot be read, and one around it that can',
      {
        'proc/self/cgroup': V2,
        'sys/fs/cgroup/box/job/cpu.max/unreadable': '',
        'sys/fs/cgroup/box/cpu.max': '300000 100000\n',
      },
      3,
    ],
    ['half a processor', { 'proc/self/cgroup': V2, 'sys/fs/cgroup/box/job/cpu.max': '50000 100000\n' }, 1],
    ['two and a half', { 'proc/self/cgroup': V2, 'sys/fs/cgroup/box/job/cpu.max': '250000 100000\n' }, 2],
    ['more than there are', { 'proc/self/cgroup': V2, 'sys/fs/cgroup/box/job/cpu.max': '12800000 100000\n' }, 64],
    [
      'v1 without a limit',
      {
        'proc/self/cgroup': V1,
        'sys/fs/cgroup/cpu,cpuacct/docker/3f/cpu.cfs_quota_us': '-1\n',
        'sys/fs/cgroup/cpu,cpuacct/docker/3f/cpu.cfs_period_us': '100000\n',
      },
      64,
    ],
    [
      'v1 with --cpus=6',
      {
        'proc/self/cgroup': V1,
        'sys/fs/cgroup/cpu,cpuacct/docker/3f/cpu.cfs_quota_us': '600000\n',
        'sys/fs/cgroup/cpu,cpuacct/docker/3f/cpu.cfs_period_us': '100000\n',
      },
      6,
    ],
    [
      'v1 from inside the container',
      {
        'proc/self/cgroup': V1,
        'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '150000\n',
        'sys/fs/cgroup/cpu/cpu.cfs_period_us': '50000\n',
      },
      3,
    ],
    ['nonsense', { 'proc/self/cgroup': 'x\n', 'sys/fs/cgroup/cpu.max': '\n' }, 64],
  ])('%s', (_name, files, expected) => {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, name)), { recursive: true });
      writeFileSync(join(root, name), text);
    }
    expect(processors({ root, cores: 64 })).toBe(expected);
    expect(processors({ root, cores: 1 })).toBe(1);
  });
});

test('here they are no more than the affinity mask leaves', () => {
  expect(processors()).toBeLessThanOrEqual(availableParallelism());
});

test('TF_NUM_INTRAOP_THREADS decides the threads, and has to be a number of them', () => {
  vi.stubEnv('TF_NUM_INTRAOP_THREADS', '5');
  expect(threadsPerOp()).toBe(5);
  vi.stubEnv('TF_NUM_INTRAOP_THREADS', undefined);
  expect(threadsPerOp()).toBe(processors());
  for (const wrong of ['0', '-1', '1.5', 'many']) {
    vi.stubEnv('TF_NUM_INTRAOP_THREADS', wrong);
    expect(threadsPerOp).toThrow(`'${wrong}'`);
  }
});
