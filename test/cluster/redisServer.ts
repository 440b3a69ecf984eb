import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { daemon, freePorts, stop, until } from './daemons';

const TRIES = 5;

/** A real Redis with a password on the loopback interface, that keeps all in a folder. */
export class RedisServer {
  readonly password = 'a-secret-of-the-tests';
  private child?: ChildProcess;

  private constructor(
    private readonly folder: string,
    private readonly port: number,
  ) {}

  static async start(folder: string): Promise<RedisServer> {
    for (let i = 1; ; i++) {
      const server = new RedisServer(folder, (await freePorts(1))[0]);
      try {
        await server.begin();
        return server;
      } catch (error) {
        await server.end();
        if (i === TRIES) throw error; // another process was faster to take the port
      }
    }
  }

  get url(): string {
    return `redis://:${this.password}@127.0.0.1:${this.port}`;
  }

  async begin(): Promise<void> {
    const options = { port: this.port, bind: '127.0.0.1', requirepass: this.password, dir: this.folder };
    const words = Object.entries({ ...options, appendonly: 'yes', loglevel: 'warning' }).flatMap(([key, value]) => [
      `--${key}`,
      String(value),
    ]);
    this.child = daemon('redis-server', words);
    await until('redis-server listens', async () => {
      if (this.child!.exitCode !== null) throw new Error('redis-server ended.');
      const socket = connect(this.port, '127.0.0.1');
      try {
        await once(socket, 'connect');
        return true;
      } catch {
        return false;
      } finally {
        socket.destroy();
      }
    });
  }

  /** With SIGKILL as a crash would. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await stop(this.child, signal);
  }
}
