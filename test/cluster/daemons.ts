import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** Whether programs are installed; without one a test says so and is skipped. */
export function missing(...programs: string[]): string | undefined {
  const absent = programs.filter(program => spawnSync('which', [program]).status !== 0);
  return absent.length > 0 ? `not installed: ${absent.join(', ')}` : undefined;
}

/** A daemon in the foreground, which its folder's tests end by its process. */
export function daemon(program: string, args: readonly string[], env = process.env): ChildProcess {
  return spawn(program, args, { env, stdio: 'ignore' });
}

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

export async function until(what: string, condition: () => boolean | Promise<boolean>, seconds = 60): Promise<void> {
  for (const end = Date.now() + 1000 * seconds; Date.now() < end; await sleep(100)) if (await condition()) return;
  throw new Error(`It took more than ${seconds} s: ${what}.`);
}

/** Starts a daemon again for as long as it ends at once, as one does whose port another process has at this moment, until it is ready. */
export async function untilReady(
  what: string,
  start: () => ChildProcess,
  isReady: () => boolean | Promise<boolean>,
): Promise<ChildProcess> {
  let child = start();
  try {
    await until(what, () => {
      if (hasEnded(child)) child = start();
      return isReady();
    });
  } catch (error) {
    await stop(child);
    throw error;
  }
  return child;
}

/** Ends a process and waits for its end. */
export async function stop(child: ChildProcess | undefined, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (!child || hasEnded(child)) return;
  const closed = new Promise(resolve => child.once('exit', resolve));
  child.kill(signal);
  await closed;
}

const TRIES = 5;

/** Begins what needs ports with some that are free at this moment, and again with others where another process was faster to take one. */
export async function onFreePorts<T extends { end(): Promise<void> }>(
  count: number,
  make: (ports: number[]) => T & { begin(): Promise<void> },
): Promise<T> {
  for (let i = 1; ; i++) {
    const made = make(await freePorts(count));
    try {
      await made.begin();
      return made;
    } catch (error) {
      await made.end();
      if (i === TRIES) throw error;
    }
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>(resolve => {
          const server = createServer().listen(0, '127.0.0.1', () => resolve(server));
        }),
    ),
  );
  const ports = servers.map(server => (server.address() as { port: number }).port);
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))));
  return ports;
}

export const output = (program: string, args: readonly string[], env = process.env): string =>
  execFileSync(program, args, { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
