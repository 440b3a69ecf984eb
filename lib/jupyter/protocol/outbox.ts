import { setTimeout as sleep } from 'node:timers/promises';
import type { Frames } from './message';

/** Where a socket is full; libzmq does not tell when an XPUB socket is so no more. */
const RETRY_MS = 10;

/**
 * Sends in order, one at a time. zeromq.js makes every 512th send() asynchronous and refuses the next one until it has settled,
 * so whoever does not wait loses messages.
 */
export class Outbox {
  /** Of what waits, in bytes. */
  size = 0;
  private readonly waiting: Frames[] = [];
  private sending: Promise<void> | undefined;

  /** `onEmpty` is called when all that waited has been sent. What can't be sent is dropped, as a socket without its peer does. */
  constructor(
    private readonly socket: { send(frames: Frames): Promise<void> },
    private readonly onEmpty: () => void = () => {},
  ) {}

  push(frames: Frames): void {
    this.waiting.push(frames);
    this.size += sizeOf(frames);
    this.sending ??= this.drain();
  }

  /** Resolves when all that was pushed is with zeromq. */
  async flushed(): Promise<void> {
    await this.sending;
  }

  private async sent(frames: Frames): Promise<boolean> {
    try {
      await this.socket.send(frames);
      return true;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code !== 'EAGAIN';
    }
  }

  private async drain(): Promise<void> {
    while (this.waiting.length > 0) {
      for (const frames of this.waiting.splice(0)) {
        while (!(await this.sent(frames))) await sleep(RETRY_MS);
        this.size -= sizeOf(frames);
      }
      if (this.waiting.length === 0) this.onEmpty();
    }
    this.sending = undefined;
  }
}

function sizeOf(frames: Frames): number {
  return frames.reduce((size, frame) => size + frame.length, 0);
}
