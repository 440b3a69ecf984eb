import type { Difference } from '../charts/intervals';
import type { Chart } from '../charts/style';
import type { MeanInterval } from '../measure/statistics';
import { percent } from '../runs/console';
import { isClear, type TrialResult, type VariantResult } from '../runs/trialResults';
import { type Table, thousands } from '../util/tables';
import { counted } from '../util/text';

/** A part of the lab's report: of a page, and of the tables in Markdown. */
export interface Section {
  /** Of its place in the page. */
  id: string;
  title: string;
  /** Paragraphs, in which `backticks` stand for code. */
  text: string[];
  /** By the names of their files. */
  charts: Record<string, Chart>;
  /** What a chart shows, by its name: titles describe, captions claim. */
  captions: Record<string, string>;
  tables: Table[];
  /** The command that makes each point again, by what it is called. */
  rerun: Record<string, string>;
  /** Images with what is to be said of each. */
  pictures: { jpeg: Buffer; caption: string[] }[];
}

/** A section with what it has; of all else it has nothing. */
export function section(id: string, title: string, parts: Partial<Omit<Section, 'id' | 'title'>>): Section {
  return { id, title, text: [], charts: {}, captions: {}, tables: [], rerun: {}, pictures: [], ...parts };
}

/** In per cent, or in points: `81.3 ± 1.2`. */
export function interval({ mean, half }: MeanInterval, signed = false): string {
  const value = (100 * mean).toFixed(1);
  return `${signed && mean >= 0 ? '+' : ''}${value.replace('-', '−')}${half === null ? '' : ` ± ${(100 * half).toFixed(1)}`}`;
}

/** Variants with their costs, their accuracy and how far they are from the baseline. */
export function variantTable(variants: readonly VariantResult[], baseline: string): Table {
  return {
    columns: {
      variant: 'variant',
      params: 'params',
      macs: 'MACs',
      seeds: 'seeds',
      top1: 'top-1, %',
      difference: `less ${baseline}, points`,
      clear: 'CI excludes 0',
    },
    rows: variants.map(({ variant, params, macs, top1, difference }) => ({
      variant,
      params: thousands(params),
      macs: `${(macs / 1e6).toFixed(1)} M`,
      seeds: String(top1.count),
      top1: interval(top1),
      difference: difference ? interval(difference, true) : '–',
      clear: difference && difference.half !== null ? (isClear(difference) ? 'yes' : 'no') : '–',
    })),
  };
}

export const INTERVALS =
  "Means over seeds ± half of the 95 % interval, by Student's t distribution. Differences are taken seed by seed; the last column says whether their interval (CI) excludes 0. " +
  'The intervals hold what seeds change, not the choice of test images.';

/** For which differences the CI excludes 0, in a line. Those of a single seed have no CI, and are told apart. */
export function verdict(differences: readonly Difference[]): string {
  const known = differences.filter(hasInterval);
  const single = differences.length - known.length;
  if (known.length === 0)
    return `${single === 1 ? 'The difference has no CI' : `None of ${single} differences has a CI`}: it takes two seeds at least`;
  const rest =
    single === 0 ? '' : `; ${counted(single, 'difference')} of a single seed ${single === 1 ? 'has' : 'have'} none`;
  return `${ofIntervals(known)}${rest}`;
}

function ofIntervals(known: readonly Difference[]): string {
  const clear = known.filter(({ difference }) => isClear(difference)).map(({ variant }) => variant);
  const { length } = known;
  if (length === 1) return `The CI of the one difference ${clear.length === 1 ? 'excludes' : 'includes'} 0`;
  return clear.length === 0
    ? `The CIs of ${length === 2 ? 'both' : `all ${length}`} differences include 0`
    : `The CI excludes 0 for ${clear.length} of ${length} differences: ${clear.join(', ')}`;
}

const hasInterval = ({ difference }: Difference): boolean => difference.half !== null;

/** What many comparisons show by chance; nothing where none has a CI. */
export function byChance(differences: readonly Difference[]): string {
  const count = differences.filter(hasInterval).length;
  if (count === 0) return '';
  return ` Of ${counted(count, 'comparison')} at 95 %, ${(0.05 * count).toFixed(2)} would exclude 0 if nothing differed at all.`;
}

/** What the rows were made of, in a line. */
export function setting(rows: readonly TrialResult[]): string {
  const [{ data, classes, train, test, epochs, batch }] = rows;
  const sizes = [
    ...new Set(rows.map(({ height, width }) => (height === width ? String(height) : `${height}×${width}`))),
  ].join(', ');
  const seeds = new Set(rows.map(({ seed }) => seed)).size;
  return `${data}: ${counted(classes, 'class', 'classes')}, ${counted(train, 'image')} to train on and ${thousands(test)} to test with, ${sizes} px; ${counted(epochs, 'epoch')} of batch ${batch}; ${counted(seeds, 'seed')}`;
}

/** Means of fractions of images that are closer than this are one, summed in another order. */
const SAME_MEAN = 1e-9;

/** `edgevit-s has the highest mean, 81.3 %`, or all that have it. */
export function leader(variants: readonly VariantResult[]): string {
  const highest = Math.max(...variants.map(({ top1 }) => top1.mean));
  const best = variants.filter(({ top1 }) => highest - top1.mean < SAME_MEAN).map(({ variant }) => variant);
  return `${best.join(', ')} ${best.length === 1 ? 'has' : 'have'} the highest mean top-1, ${percent(highest)}`;
}
