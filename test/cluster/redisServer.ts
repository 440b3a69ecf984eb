import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { daemon, onFreePorts, stop, untilReady } from './daemons';

/** A real Redis with a password on the loopback interface, that keeps all in a folder. */
export class RedisServer {
  readonly password = 'a-secret-of-the-tests';
  private child?: ChildProcess;

  private constructor(
    private readonly folder: string,
    private readonly port: number,
  ) {}

  static start(folder: string): Promise<RedisServer> {
    return onFreePorts(1, ([port]) => new RedisServer(folder, port));
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
    this.child = await untilReady(
      'redis-server listens',
      () => daemon('redis-server', words),
      async () => {
        const socket = connect(this.port, '127.0.0.1');
        try {
          await once(socket, 'connect');
          return true;
        } catch {
          return false;
        } finally {
          socket.destroy();
        }
      },
    );
  }

  /** With SIGKILL as a crash would. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await stop(this.child, signal);
  }
}
