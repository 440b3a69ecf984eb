import type { Frames } from './message';

/**
 * Sends in order, one at a time. zeromq.js makes every 512th send() asynchronous and refuses the next one until it has settled,
 * so whoever does not wait loses messages.
 */
export class Outbox {
  private readonly waiting: Frames[] = [];
  private sending: Promise<void> | undefined;

  constructor(private readonly socket: { send(frames: Frames): Promise<void> }) {}

  push(frames: Frames): void {
    this.waiting.push(frames);
    this.sending ??= this.drain();
  }

  /** Resolves when all that was pushed is with zeromq. */
  async flushed(): Promise<void> {
    await this.sending;
  }

  private async drain(): Promise<void> {
    try {
      while (this.waiting.length > 0) {
        for (const frames of this.waiting.splice(0)) await this.socket.send(frames);
      }
    } finally {
      this.sending = undefined;
    }
  }
}
