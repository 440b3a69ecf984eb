import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { Dealer, Request } from 'zeromq';
import { KERNEL_ARGV } from '../lib/jupyter/install/register';
import { KernelClient, KernelDied } from '../lib/jupyter/notebook/client';
import { address, type Connection } from '../lib/jupyter/protocol/connection';
import { encode, newHeader } from '../lib/jupyter/protocol/message';
import { startKernel } from './kernelHelper';

// What the kernel's process does around its cells.

const folder = mkdtempSync(join(tmpdir(), 'edgevit-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Over TCP, at whatever ports are free. */
const CONNECTION: Connection = {
  transport: 'tcp',
  ip: '127.0.0.1',
  key: 'k',
  signature_scheme: 'hmac-sha256',
  shell_port: 0,
  iopub_port: 0,
  stdin_port: 0,
  control_port: 0,
  hb_port: 0,
};

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('a message with a wrong signature, or of the wrong form, is refused; the right one is answered', async () => {
  const { kernel } = await startKernel();
  const socket = new Dealer({ linger: 0, receiveTimeout: 1000 });
  try {
    socket.connect(address(kernel.connection, kernel.connection.shell_port));
    const message = {
      identities: [],
      header: newHeader('kernel_info_request', 's', 'u'),
      parent: {},
      metadata: {},
      content: {},
    };
    await socket.send(encode('not the key', message));
    await socket.send(['nonsense']);
    await expect(socket.receive()).rejects.toThrow();
    socket.receiveTimeout = 60_000;
    await socket.send(encode(kernel.connection.key, message));
    expect((await socket.receive()).length).toBeGreaterThan(5);
  } finally {
    socket.close();
    await kernel.stop();
  }
});

test('a busy kernel sends its output, beats, and can be shut down', async () => {
  const { kernel } = await startKernel();
  const heart = new Request({ linger: 0, receiveTimeout: 60_000 });
  try {
    let printed = '';
    const busy = kernel.request(
      'execute_request',
      { code: 'console.log("on the way"); while (true);' },
      { onOutput: ({ content }) => (printed += content.text ?? '') },
    );
    busy.catch(() => {});
    await expect.poll(() => printed, { timeout: 60_000 }).toBe('on the way\n');
    heart.connect(address(kernel.connection, kernel.connection.hb_port));
    await heart.send('ping');
    expect(String((await heart.receive())[0])).toBe('ping');
    await kernel.request('shutdown_request', { restart: false }, { channel: 'control' });
    await once(kernel.process, 'exit'); // by force: the cell does not hear
    await expect(busy).rejects.toThrow(KernelDied);
  } finally {
    heart.close();
    await kernel.stop();
  }
});

test('the client learns that a kernel has died, and how', async () => {
  const { kernel, run } = await startKernel();
  await expect(run('process.exit(3)')).rejects.toThrow(/exit code 3/);
  await expect(run('1')).rejects.toThrow(KernelDied);
  await kernel.stop();
  await expect(
    KernelClient.start([process.execPath, '-e', 'console.error("no such kernel"); process.exit(4)']),
  ).rejects.toThrow(/exit code 4[\s\S]*no such kernel/);
});

test('over TCP it listens on the loopback only, and says at which ports', async () => {
  const file = join(folder, 'tcp.json');
  writeFileSync(file, JSON.stringify(CONNECTION));
  const kernel = spawn(KERNEL_ARGV[0]!, [...KERNEL_ARGV.slice(1, -1), file], { stdio: 'inherit' });
  try {
    const told = (): Connection => JSON.parse(readFileSync(file, 'utf8'));
    await expect.poll(() => told().shell_port, { timeout: 60_000 }).toBeGreaterThan(0);
    const socket = new Dealer({ linger: 0, receiveTimeout: 60_000 });
    const header = newHeader('kernel_info_request', 's', 'u');
    socket.connect(address(told(), told().shell_port));
    await socket.send(encode('k', { identities: [], header, parent: {}, metadata: {}, content: {} }));
    expect((await socket.receive()).length).toBeGreaterThan(5);
    socket.close();
    const outside = Object.values(networkInterfaces())
      .flat()
      .filter(face => face && !face.internal && face.family === 'IPv4');
    for (const { address: host } of outside as { address: string }[])
      await expect(once(connect({ host, port: told().shell_port }), 'connect')).rejects.toThrow(/ECONNREFUSED/);
  } finally {
    kernel.kill('SIGKILL');
  }
});

test.each([
  ['another address than the loopback', { ip: '0.0.0.0' }, /ip is "0.0.0.0": the kernel listens on the loopback only/],
  ['no key', { key: '' }, /key is "": the kernel answers signed messages only/],
  ['one port for two channels', { shell_port: 5, stdin_port: 5 }, /stdin_port is 5: it is shell_port too/],
])('it does not start with %s', (_name, change, message) => {
  const file = join(folder, 'connection.json');
  writeFileSync(file, JSON.stringify({ ...CONNECTION, ...change }));
  const { status, stderr } = spawnSync(KERNEL_ARGV[0]!, [...KERNEL_ARGV.slice(1, -1), file], { encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr).toMatch(message);
  expect(stderr).not.toContain('    at ');
});

test('a port that another process has is told in one sentence', async () => {
  const other = createServer();
  await new Promise<void>(done => other.listen(0, '127.0.0.1', done));
  const { port } = other.address() as AddressInfo;
  const file = join(folder, 'taken.json');
  writeFileSync(file, JSON.stringify({ ...CONNECTION, iopub_port: port }));
  const kernel = spawn(KERNEL_ARGV[0]!, [...KERNEL_ARGV.slice(1, -1), file], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  kernel.stderr.on('data', text => (said += text));
  const [code, signal] = await once(kernel, 'close');
  other.close();
  expect([code, signal]).toEqual([1, null]);
  expect(said).toMatch(new RegExp(`^edgevit-lab kernel: its iopub_port .*:${port} .*in use[^\n]*\n$`));
});

describe('a byte that nobody signed, to a kernel whose stderr', () => {
  /** Of a pipe that nobody reads and that holds all it can. */
  function full(): number {
    const fifo = join(folder, 'full');
    execFileSync('mkfifo', [fifo]);
    const filling = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    try {
      for (;;) writeSync(filling, Buffer.alloc(4096));
    } catch {
      return openSync(fifo, 'r+');
    }
  }

  test.each(['is closed', 'is full'])('%s, is refused; it answers, and ends when asked', async state => {
    const file = join(folder, `${state}.json`);
    const connection = { ...CONNECTION, transport: 'ipc' as const, ip: join(folder, state.slice(3)) };
    const ports = { shell_port: 1, iopub_port: 2, stdin_port: 3, control_port: 4, hb_port: 5 };
    writeFileSync(file, JSON.stringify({ ...connection, ...ports }));
    const stderr = state === 'is full' ? full() : ('pipe' as const);
    const kernel = spawn(KERNEL_ARGV[0]!, [...KERNEL_ARGV.slice(1, -1), file], { stdio: ['ignore', 'ignore', stderr] });
    kernel.stderr?.destroy();
    const [shell, control] = [1, 4].map(port => {
      const socket = new Dealer({ linger: 0, receiveTimeout: 60_000 });
      socket.connect(address({ ...connection, ...ports }, port));
      return socket;
    }) as [Dealer, Dealer];
    const ask = async (socket: Dealer, type: string): Promise<number> => {
      const message = { identities: [], header: newHeader(type, 's', 'u'), parent: {}, metadata: {}, content: {} };
      await socket.send(encode('k', message));
      return (await socket.receive()).length;
    };
    for (let i = 0; i < 100; i++) await shell.send('x');
    expect(await ask(shell, 'kernel_info_request')).toBeGreaterThan(5);
    const ended = once(kernel, 'exit');
    expect(await ask(control, 'shutdown_request')).toBeGreaterThan(5);
    await ended;
    for (const socket of [shell, control]) socket.close();
  });
});

test.each([
  ['an idle', '1'],
  ['a busy', 'while (true);'],
])('%s kernel ends with its parent', async (_name, code) => {
  const script = join(folder, 'parent.cjs');
  writeFileSync(
    script,
    `
    require('tsx/cjs');
    const { KernelClient } = require(${JSON.stringify(join(__dirname, '../lib/jupyter/notebook/client.ts'))});
    const { KERNEL_ARGV } = require(${JSON.stringify(join(__dirname, '../lib/jupyter/install/register.ts'))});
    KernelClient.start([...KERNEL_ARGV, '--no-history']).then(async kernel => {
      kernel.request('execute_request', { code: ${JSON.stringify(code)} }).catch(() => {});
      await new Promise(done => setTimeout(done, 1500));
      console.log(kernel.process.pid);
    });`,
  );
  const parent = spawn(process.execPath, [script], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, NODE_PATH: join(__dirname, '../node_modules') },
  });
  const [text] = (await once(parent.stdout, 'data')) as [Buffer];
  const kernel = Number(text);
  expect(alive(kernel)).toBe(true);
  parent.kill('SIGKILL');
  await expect.poll(() => alive(kernel), { timeout: 60_000, interval: 200 }).toBe(false);
});

test('a kernel that is shut down ends well', async () => {
  const { kernel } = await startKernel();
  await kernel.stop();
  expect(kernel.process.exitCode).toBe(0);
});
