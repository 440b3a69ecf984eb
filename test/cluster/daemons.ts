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

export async function until(what: string, condition: () => boolean | Promise<boolean>, seconds = 60): Promise<void> {
  for (const end = Date.now() + 1000 * seconds; Date.now() < end; await sleep(100)) if (await condition()) return;
  throw new Error(`It took more than ${seconds} s: ${what}.`);
}

/** Ends a process and waits for its end. */
export async function stop(child: ChildProcess | undefined, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const closed = new Promise(resolve => child.once('exit', resolve));
  child.kill(signal);
  await closed;
}

/** Ports that are free at this moment. Whoever takes them has to be ready to ask again. */
export async function freePorts(count: number): Promise<number[]> {
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
