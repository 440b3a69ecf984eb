import sharp from 'sharp';
import { pictureReader } from '../data/dataset';
import { openDataset } from '../data/open';
import { percent } from '../runs/console';
import type { Run } from '../runs/store';
import type { Predictions } from '../train/metrics';
import type { Section } from './sections';

/** A test image that was taken for something else. */
export interface Mistake {
  /** Of the image in the test split. */
  index: number;
  label: number;
  predicted: number;
  /** Of what it was taken for. */
  probability: number;
}

/** Wrong predictions, those that were surest first. */
export function mistakesOf({ labels, top, probabilities }: Predictions): Mistake[] {
  return labels
    .map((label, index) => ({ index, label, predicted: top[index][0], probability: probabilities[index][0] ?? 0 }))
    .filter(({ label, predicted }) => label !== predicted)
    .sort((a, b) => b.probability - a.probability || a.index - b.index);
}

/** Pixels of an image's side on the page, and on screens that have two for each. */
const SIDE = 2 * 88;

/**
 * The surest mistakes of a run, with their images from the dataset that it was tested with. Where that cannot be opened, or holds other
 * images by now, the text says so and there are none.
 */
export async function mistakePictures(run: Run, limit = 24): Promise<Pick<Section, 'text' | 'pictures'>> {
  const {
    recipe,
    dataOptions,
    dataset: { fingerprint, classes },
  } = run.record;
  const predictions = run.predictions();
  if (!predictions) return { text: ['What the run said of each image was not kept.'], pictures: [] };
  const mistakes = mistakesOf(predictions);
  const count = `${mistakes.length} of ${predictions.labels.length} test images were taken for something else`;
  if (mistakes.length === 0) return { text: [`${count}.`], pictures: [] };
  const shown = mistakes.slice(0, limit);
  try {
    // Whoever wrote run.json, a report writes where it is told, and downloads nothing.
    const { cacheDir: _, ...options } = dataOptions;
    const dataset = await openDataset(recipe.data, { ...options, mayDownload: false });
    if (dataset.fingerprint !== fingerprint)
      return { text: [`${count}. Their images are not shown: '${recipe.data}' holds others by now.`], pictures: [] };
    const reader = pictureReader(dataset.test);
    try {
      const pictures: Section['pictures'] = [];
      for (const { index, label, predicted, probability } of shown) {
        const { width, height, pixels } = reader.read(index);
        const jpeg = await sharp(pixels, { raw: { width, height, channels: 3 } })
          .resize(SIDE, SIDE, { fit: 'cover' })
          .jpeg({ quality: 75 })
          .toBuffer();
        pictures.push({
          jpeg,
          caption: [
            `${classes[label]}`,
            `taken for ${classes[predicted] ?? `output ${predicted}`}, ${percent(probability).replace(' ', '\u00a0')}`,
          ],
        });
      }
      return {
        text: [
          `${count}; ${shown.length < mistakes.length ? `the ${shown.length} of which the network was surest are shown` : 'the surest first'}.`,
        ],
        pictures,
      };
    } finally {
      reader.close();
    }
  } catch (error) {
    return {
      text: [
        `${count}. Their images are not shown, because '${recipe.data}' cannot be read here: ${(error as Error).message}`,
      ],
      pictures: [],
    };
  }
}
