import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Failure } from '../util/errors';
import type { Contender } from './latency';

/** What a process of pure JavaScript is to predict. */
export interface PredictionRequest {
  model: string;
  numClasses: number;
  size: readonly [number, number];
  batch: number;
}

const STDERR_KEPT = 2000;

/** A prediction on the pure-JS backend, in a process of its own, for one process has one engine. Throws Failure where it ends early. */
export async function predictionInJs(request: PredictionRequest): Promise<Contender & { dispose(): void }> {
  const execArgv = ['--import', createRequire(__filename).resolve('tsx')];
  const child = fork(join(__dirname, 'jsPredictionProcess.ts'), {
    execArgv,
    env: { ...process.env, EDGEVIT_ENGINE: 'js' },
    stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
  });
  let said = ''; // stock tfjs greets whoever runs it without TensorFlow, which nobody needs to read
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-STDERR_KEPT);
  });
  const ended = once(child, 'exit').then(([code, signal]) => {
    throw new Failure(
      `The process of pure JavaScript that predicts with ${request.model} ended with ${signal ?? `exit status ${code}`}: ${said.trim()}`,
    );
  });
  ended.catch(() => {}); // whoever waits for an answer is told
  const ask = async (message: PredictionRequest | number): Promise<unknown> => {
    const answer = once(child, 'message');
    child.send(message);
    const [reply] = await Promise.race([answer, ended]);
    return reply;
  };
  await ask(request);
  return { name: request.model, run: async count => (await ask(count)) as number[], dispose: () => child.disconnect() };
}
