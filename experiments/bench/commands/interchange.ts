import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { openEngine } from '../../../lib/engine/open';
import { toChannelsLast } from '../../../lib/tensor/layout';
import { type Tensor4D, tf } from '../../../lib/tensor/tf';
import { evalStep } from '../../../lib/train/step';
import { Failure } from '../../../lib/util/errors';
import { execute } from '../../../lib/util/processes';
import { ROOT } from '../../../lib/util/root';
import { importWeights } from '../../../lib/weights/import';
import { officialName } from '../../../lib/weights/keyMaps';
import { placeTensors } from '../../../lib/weights/place';
import type { HostTensor } from '../../../lib/weights/safetensors';
import { readStateDict } from '../../../lib/weights/stateDict';
import { writeTorchFile } from '../../../lib/weights/torchWriter';
import { PEERS, pythonEnvironment } from '../python';

const LAYOUTS = ['official', 'easycv', 'birder'] as const;

/** Largest difference of logits that is allowed, as a fraction of the largest logit. */
const TOLERANCE = 2e-6;

/**
 * `npm run interchange`: PyTorch writes state dicts of three layouts; what is imported computes the same logits, and what is written again
 * PyTorch reads to the byte. About a minute, once the bench's Python environment is there. Exit 1 where either fails.
 */
export function register(program: Command): void {
  program
    .command('interchange')
    .description("import PyTorch's state dicts of each layout, compare logits, and hand the weights back")
    .argument('[layouts...]', LAYOUTS.join(', '), [...LAYOUTS])
    .option('--python <interpreter>', "with torch, and birder for its layout (default: the bench's own environment)")
    .action(async (layouts: string[], { python }: { python?: string }) => {
      const interpreter =
        python ?? (await pythonEnvironment(join(ROOT, '.venv-bench'), 'peers', line => console.error(line)));
      await openEngine({ announce: true });
      const folder = mkdtempSync(join(tmpdir(), 'interchange-'));
      try {
        for (const layout of layouts) await prove(interpreter, folder, layout);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
}

async function prove(python: string, folder: string, layout: string): Promise<void> {
  const script = (...args: string[]) => execute(python, [join(PEERS, 'state_dicts.py'), ...args]);
  const written = await script('write', folder, layout);
  if (written.code !== 0)
    throw new Failure(
      `PyTorch could not write the layout '${layout}': ${written.output.trim().split('\n').at(-1)}. The bench's environment lacks PyPI's birder, which its own layout takes: --python names an interpreter that has it.`,
    );
  const [theirs, ours] = [join(folder, `${layout}.pth`), join(folder, `${layout}.ours.pth`)];
  const { tensors: expected } = await readStateDict(join(folder, `${layout}.expected.pth`));
  const { images, logits } = expected as Record<string, HostTensor & { dtype: 'F32' }>;
  const [batch, channels, height, width] = images!.shape as readonly number[] as [number, number, number, number];
  const { model, map, tensors, source } = await importWeights(theirs, { size: [height, width] });
  const [params, buffers] = [model.params, model.buffers].map(specs => placeTensors(specs, tensors));
  const x = tf.tensor(toChannelsLast(images!.data, [batch, channels, height, width]), [batch, height, width, channels]);
  const output = evalStep(model)(params!, buffers!, x as Tensor4D).dataSync();
  const largest = Math.max(...logits!.data.map(Math.abs));
  const difference = Math.max(...logits!.data.map((value, i) => Math.abs(value - output[i]!))) / largest;
  await writeTorchFile(ours, tensors);
  const names = Object.keys((await readStateDict(theirs, { key: source.key })).tensors);
  const mapped = JSON.stringify(Object.fromEntries(names.map(name => [name, officialName(map, name)])));
  const compared = await script('compare', theirs, ours, mapped);
  console.log(
    `${layout}: ${model.name} by the map '${map}', logits differ by ${difference.toExponential(1)} of the largest; handed back: ${compared.output.trim()}`,
  );
  if (!(difference <= TOLERANCE) || compared.code !== 0) process.exitCode = 1;
}
