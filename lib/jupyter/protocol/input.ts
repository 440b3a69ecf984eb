import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { Flag, type InputAnswer } from './threads';

/** What the main thread asks of the front end, by way of the wire's thread: a line of text that a person types. */
export class Input {
  private count = 0;
  private readonly waiting = new Map<number, (answer: InputAnswer) => void>();

  /** `ask` sends a question; its answer comes by `port`, and `flags` tells of it where this thread waits. */
  constructor(
    private readonly port: MessagePort,
    private readonly flags: Int32Array,
    private readonly ask: (id: number, prompt: string) => void,
  ) {
    port.on('message', (answer: InputAnswer) => this.take(answer));
    port.unref();
  }

  /** Waits as `prompt()` does in a browser: nothing else happens in the meantime. Interrupts end it. */
  line(prompt: string): InputAnswer {
    let answer: InputAnswer | undefined;
    const id = this.begin(prompt, given => {
      answer = given;
    });
    while (!answer) {
      const answers = Atomics.load(this.flags, Flag.answers);
      const arrived = receiveMessageOnPort(this.port);
      if (arrived) this.take(arrived.message);
      else Atomics.wait(this.flags, Flag.answers, answers);
    }
    this.waiting.delete(id);
    return answer;
  }

  lineLater(prompt: string): Promise<InputAnswer> {
    return new Promise(resolve => void this.begin(prompt, resolve));
  }

  private begin(prompt: string, then: (answer: InputAnswer) => void): number {
    const id = ++this.count;
    this.waiting.set(id, then);
    this.ask(id, prompt);
    return id;
  }

  private take(answer: InputAnswer): void {
    this.waiting.get(answer.id)?.(answer);
    this.waiting.delete(answer.id);
  }
}
