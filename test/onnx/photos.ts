import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { env, pipeline, RawImage } from '@huggingface/transformers';
import { openSource } from '../../lib/cli/support/source';
import { resizeBox } from '../../lib/data/transforms/resize';
import { openEngine } from '../../lib/engine/open';
import { exportModel } from '../../lib/export/formats';
import { compiledPredictor, readImage } from '../../lib/runs/predictor';

const TOLERANCE = 1e-3;

/**
 * `npm run test:photos -- RUN FOLDER`: a trained run, exported for transformers.js, on the photographs FOLDER/CLASS/FILE that were kept from it,
 * resized by the lab, so that both see equal pixels. For each precision: how many are right, of how many the first class is the lab's, and the
 * largest difference of a probability. Ends with code 1 where one of 80 has another first class or a probability is further away than 1e-3. A
 * minute for 240 photographs.
 */
async function main([name = '', root = '']: string[]): Promise<void> {
  await openEngine({ announce: true });
  const source = await openSource(name);
  const predictor = compiledPredictor(source);
  const [height, width] = source.model.inputSize;
  const files = readdirSync(root).flatMap(label =>
    readdirSync(join(root, label)).map(file => ({ label, path: join(root, label, file) })),
  );
  const photos: { label: string; ours: Map<string, number>; first: string; image: RawImage }[] = [];
  for (const { label, path } of files) {
    const photo = await readImage(path, source);
    const ours = await predictor.predict(photo);
    const pixels = resizeBox(photo, { x: 0, y: 0, width: photo.width, height: photo.height }, [height, width]);
    photos.push({
      label,
      ours: new Map(ours.map(({ name, probability }) => [name, probability])),
      first: ours[0]!.name,
      image: new RawImage(pixels, width, height, 3),
    });
  }
  predictor.dispose();
  console.log(`lab: ${photos.filter(({ label, first }) => label === first).length} of ${photos.length} right`);
  const folder = mkdtempSync(join(tmpdir(), 'edgevit-photos-'));
  Object.assign(env, { allowRemoteModels: false, localModelPath: '' });
  try {
    await exportModel(source, 'hf', join(folder, 'hub'));
    for (const dtype of ['fp32', 'fp16', 'q8'] as const) {
      const classify = await pipeline('image-classification', join(folder, 'hub'), { dtype, device: 'cpu' });
      let [right, same, worst] = [0, 0, 0];
      for (const { label, ours, first, image } of photos) {
        const told = await classify(image, { top_k: source.classes.length });
        right += Number(told[0]!.label === label);
        same += Number(told[0]!.label === first);
        worst = Math.max(worst, ...told.map(({ label, score }) => Math.abs(score - ours.get(label)!)));
      }
      await classify.dispose();
      if (same < photos.length - photos.length / 80 || worst > TOLERANCE) process.exitCode = 1;
      console.log(`${dtype}: ${right} right, ${same} as the lab, probabilities within ${worst.toExponential(1)}`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

void main(process.argv.slice(2));
