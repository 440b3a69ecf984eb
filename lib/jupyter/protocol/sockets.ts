import { readFileSync } from 'node:fs';
import { Reply, Router, XPublisher } from 'zeromq';
import { Failure } from '../../util/errors';
import { writeFileAtomic } from '../../util/files';
import { address, type Connection, PORTS } from './connection';
import { log } from './log';
import { decode, MalformedMessage, type Message } from './message';

/** Of a message, in bytes: zeromq hangs up on whoever sends more. */
const MAX_MESSAGE_SIZE = 1 << 28;
/** Of messages with zeromq; more wait where they can be counted (iopub.ts). */
const QUEUE_LENGTH = 100;

/** Messages that were sent just before a socket closes have this long to leave; beyond it zeromq drops them. */
export const LINGER_MS = 1000;

const LIMITS = { maxMessageSize: MAX_MESSAGE_SIZE };
/** A front end that comes back under its old identity, as a browser tab that reloads, gets the replies. */
const ROUTER = { ...LIMITS, handover: true, linger: LINGER_MS };

/** The five sockets of a kernel. */
export class Sockets {
  readonly shell_port = new Router(ROUTER);
  readonly control_port = new Router(ROUTER);
  /** Mandatory: what is asked of a front end that does not listen must not wait for ever. */
  readonly stdin_port = new Router({ ...ROUTER, mandatory: true });
  readonly iopub_port = new XPublisher({
    ...LIMITS,
    linger: LINGER_MS,
    sendHighWaterMark: QUEUE_LENGTH,
    sendTimeout: 0, // refuses what it would have to drop, so that it can be sent later
    noDrop: true,
    verbosity: 'allSubs',
  });
  readonly hb_port = new Reply({ ...LIMITS, linger: 0 });

  constructor(private readonly connection: Connection) {}

  /** Throws a Failure that names the address which can't be had. Ports that were left open (0) are written into `file`. */
  async bind(file: string): Promise<void> {
    const { connection } = this;
    // All have to end before anything else does: zeromq aborts a process that leaves in the meantime.
    const bound = await Promise.allSettled(
      PORTS.map(async name => {
        const where = address(connection, connection[name]);
        await this[name].bind(where).catch((error: Error) => {
          throw new Failure(`its ${name} ${where} can't be used: ${error.message}`);
        });
      }),
    );
    const failed = bound.find(({ status }) => status === 'rejected') as PromiseRejectedResult | undefined;
    if (failed) {
      this.close();
      throw failed.reason;
    }
    if (PORTS.every(name => connection[name] !== 0)) return;
    const ports = PORTS.map(name => [name, Number(/\d+$/.exec(this[name].lastEndpoint ?? '')?.[0])] as const);
    const told = JSON.parse(readFileSync(file, 'utf8')) as object;
    writeFileAtomic(file, JSON.stringify({ ...told, ...Object.fromEntries(ports) }));
  }

  close(): void {
    for (const name of PORTS) this[name].close();
  }

  /** Hands on what is signed; a message that is none is handed to `refuse`. */
  async listen(
    socket: Router,
    accept: (message: Message) => void,
    refuse: (error: MalformedMessage) => void,
  ): Promise<void> {
    for await (const frames of socket) {
      try {
        accept(decode(this.connection.key, frames));
      } catch (error) {
        if (error instanceof MalformedMessage) refuse(error);
        else log(`refused ${(error as Error).message}`);
      }
    }
  }

  async beat(): Promise<void> {
    for await (const frames of this.hb_port) await this.hb_port.send(frames).catch(() => {});
  }
}
