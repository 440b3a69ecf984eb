import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { openEngine } from '../../lib/engine/open';
import { stopwatch } from '../../lib/measure/latency';
import { tf } from '../../lib/tensor/tf';
import { createWork, type Engine, type Work } from './work';
import type { Task } from './workloads';

/**
 * The lab, and stock tfjs-node, as contenders: the protocol of peers/protocol.py in Node, and one request more:
 * {"export": folder} writes the work as a SavedModel for Python's TensorFlow.
 */
interface Prepare extends Task {
  engine: Engine;
}

type Request = { prepare: Prepare } | { run: number } | { export: string } | { rss: true };

let work: Work;

function answer(request: Request): object {
  if ('prepare' in request) {
    const { engine } = request.prepare;
    work = createWork(request.prepare, engine);
    const { TF_Version: tensorflow } = (tf.backend() as unknown as { binding: { TF_Version: string } }).binding;
    return { ready: { versions: { 'tfjs-node': tf.version.tfjs, TensorFlow: tensorflow }, settings: engine } };
  }
  if ('run' in request) return { seconds: stopwatch('ours', () => work.run()).run(request.run) };
  if ('export' in request) {
    work.export(request.export);
    return { exported: request.export };
  }
  return { rss: peakRss() };
}

/** Bytes. Linux's own high-water mark: getrusage's would include what the parent had when it forked. */
function peakRss(): number {
  if (process.platform === 'linux')
    return 1024 * Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))![1]);
  return 1024 * process.resourceUsage().maxRSS;
}

function reply(request: Request): object {
  try {
    return answer(request);
  } catch (error) {
    return { error: String(error) };
  }
}

createInterface({ input: process.stdin }).on('line', async line => {
  await openEngine();
  process.stdout.write(`${JSON.stringify(reply(JSON.parse(line)))}\n`);
});
