import type { KernelMessage } from '@jupyterlab/services';
import type { XPublisher } from 'zeromq';
import { type ContentOf, encode, type Header, newHeader } from './message';
import { Outbox } from './outbox';

/** A cell may print 100,000 lines: what comes within this time goes out as one message. */
const GATHER_MS = 30;
const GATHER_LENGTH = 1 << 16;
/** Of what waits for front ends that read slowly, in bytes; beyond it outputs are left out, and counted. */
const WAITING_LIMIT = 1 << 25;
const OUTPUTS = ['stream', 'display_data', 'update_display_data'];

/** The channel on which a kernel tells all front ends what happens. */
export class Iopub {
  private readonly outbox: Outbox;
  private stream = {
    name: '',
    text: '',
    parent: undefined as Header | undefined,
    timer: undefined as NodeJS.Timeout | undefined,
  };
  private readonly leftOut = { count: 0, parent: undefined as Header | undefined };

  constructor(
    private readonly socket: XPublisher,
    private readonly key: string,
  ) {
    this.outbox = new Outbox(socket, () => this.tellLeftOut());
  }

  /** Greets whoever subscribes (JEP 65), so that they know that they miss nothing from now on. */
  async welcome(): Promise<void> {
    for await (const [frame] of this.socket) {
      if (frame?.[0] !== 1) continue; // of a front end that leaves
      const topic = frame.subarray(1);
      this.send('iopub_welcome', { subscription: topic.toString() }, undefined, topic);
    }
  }

  /** `parent` is the header of the request that the message belongs to. */
  publish<T extends KernelMessage.IOPubMessageType>(type: T, content: ContentOf<T>, parent: Header | undefined): void {
    this.flush();
    this.send(type, content, parent);
  }

  /** Text that a cell prints. */
  write(name: string, text: string, parent: Header | undefined): void {
    if (name !== this.stream.name || parent !== this.stream.parent) this.flush();
    Object.assign(this.stream, { name, parent });
    this.stream.text += text;
    if (this.stream.text.length > GATHER_LENGTH) this.flush();
    else this.stream.timer ??= setTimeout(() => this.flush(), GATHER_MS);
  }

  flush(): void {
    const { name, text, parent, timer } = this.stream;
    clearTimeout(timer);
    this.stream = { name: '', text: '', parent: undefined, timer: undefined };
    if (text !== '') this.send('stream', { name, text }, parent);
  }

  /** Resolves when all is with zeromq. */
  flushed(): Promise<void> {
    this.flush();
    return this.outbox.flushed();
  }

  private send(type: string, content: object, parent: Header | undefined, topic: Buffer = Buffer.from(type)): void {
    if (OUTPUTS.includes(type) && this.outbox.size > WAITING_LIMIT) {
      Object.assign(this.leftOut, { count: this.leftOut.count + 1, parent });
      return;
    }
    const header = newHeader(type, parent?.session ?? '', parent?.username ?? '');
    const message = { identities: [topic], header, parent: parent ?? {}, metadata: {}, content };
    this.outbox.push(encode(this.key, message));
  }

  private tellLeftOut(): void {
    const { count, parent } = this.leftOut;
    if (count === 0) return;
    this.leftOut.count = 0;
    const text = `[${count} outputs are missing here: a front end reads too slowly]\n`;
    this.send('stream', { name: 'stderr', text }, parent);
  }
}
