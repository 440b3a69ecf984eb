import { asyncStopwatch, interleave, type Plan, timeQuantile } from '../../measure/latency';
import { random } from '../../util/random';
import type { Manifest } from '../manifest';
import type { Session } from './backend';
import { byId, element } from './dom';
import { openOnnxWasm } from './onnxWasm';

/** Few, because a phone takes a tenth of a second for each, and a page that does nothing else is a nuisance. */
const PLAN: Plan = { rounds: 5, perRound: 3, warmUp: 2, settle: 1 };

interface Backend {
  name: string;
  precision: string;
  open(): Promise<Session>;
}

function backendsOf({ precisions, graphModel, size }: Manifest): Backend[] {
  const wasm = 'ONNX Runtime, WebAssembly';
  const webgpu = async (path: string): Promise<Session> => {
    if (!(await gpu()?.requestAdapter())) throw new Error('there is none here');
    return (await import('./onnxWebgpu')).openOnnxWebgpu(path, size);
  };
  return [
    { name: wasm, precision: 'float32', open: () => openOnnxWasm(precisions.fp32, size) },
    { name: wasm, precision: '8 bits', open: () => openOnnxWasm(precisions.q8, size) },
    { name: 'ONNX Runtime, WebGPU', precision: 'float32', open: () => webgpu(precisions.fp32) },
    { name: 'ONNX Runtime, WebGPU', precision: 'float16', open: () => webgpu(precisions.fp16) },
    {
      name: 'TensorFlow.js, WebAssembly',
      precision: 'float32',
      open: async () => (await import('./tfjsWasm')).openTfjsWasm(graphModel, size),
    },
  ];
}

/** Lets the page answer between two runs. */
const breathe = () => new Promise(resolve => setTimeout(resolve));

/** TypeScript's DOM may know no WebGPU. */
const gpu = () => (navigator as { gpu?: { requestAdapter(): Promise<object | null> } }).gpu;

/** Fills the table: each backend's median for one image, with its 95 % interval, all timed interleaved; or why there is none. */
export async function measureLatency(manifest: Manifest): Promise<void> {
  const rng = random('image');
  const image = Float32Array.from({ length: manifest.size[0] * manifest.size[1] * 3 }, () => 4 * rng.uniform() - 2);
  const rows: { backend: Backend; session?: Session; said: string }[] = [];
  for (const backend of backendsOf(manifest)) {
    try {
      const session = await backend.open();
      await session.run(image);
      rows.push({ backend, session, said: '' });
    } catch (error) {
      rows.push({ backend, said: `not available: ${(error as Error).message.split('\n')[0]}` });
    }
  }
  const running = rows.filter(({ session }) => session);
  const seconds = await interleave(
    running.map(({ backend, session }) => asyncStopwatch(backend.name, () => session!.run(image), breathe)),
    PLAN,
  );
  for (const [i, row] of running.entries()) {
    const { value, low, high } = timeQuantile(seconds[i]!, 0.5)!;
    const [median, from, to] = [value, low, high].map(s => (1000 * s).toFixed(1));
    row.said = `${median} (${from}–${to})`;
    await row.session!.dispose();
  }
  byId('latencies').replaceChildren(
    ...rows.map(({ backend: { name, precision }, said }) =>
      element(
        'tr',
        {},
        element('th', { scope: 'row' }, name),
        element('td', {}, precision),
        element('td', { class: 'number' }, said),
      ),
    ),
  );
  byId('latency').hidden = false;
}
