import { counted } from '../util/text';
import { decodeTensors } from '../weights/safetensors';
import type { Bundle } from './bundleFile';
import { type Environment, environmentDifferences, FIELDS } from './environment';
import type { RunRecord, RunResult } from './store';

/** One thing that two runs of one recipe have not in common: what, and in words for a person how. */
export interface Difference {
  what: string;
  how: string;
}

/** What two runs are compared by. */
export interface Outcome extends Pick<Bundle, 'metrics' | 'evaluation' | 'predictions' | 'weights'> {
  /** Its `weights` are the sha256 of those that training would continue with. */
  result: RunResult;
  /** What run.json says of the network and of the images. */
  model: RunRecord['model'];
  dataset: Pick<RunRecord['dataset'], (typeof COUNTED)[number]>;
}

const COUNTED = ['classes', 'train', 'test', 'val', 'skipped'] as const;

/** Where what came out first differs, at most one line for each of its parts; none for runs that are identical to the byte. */
export function outcomeDifferences(there: Outcome, here: Outcome): Difference[] {
  const parts = {
    losses: metricsDifference(there.metrics, here.metrics),
    evaluation: valueDifference(there.evaluation, here.evaluation),
    predictions: predictionsDifference(there.predictions, here.predictions),
    weights: weightsDifference(there, here),
    result: valueDifference(told(there.result), told(here.result)),
    model: valueDifference(there.model, here.model),
    dataset: valueDifference(countsOf(there), countsOf(here)),
  };
  return Object.entries(parts).flatMap(([what, how]) => (how === undefined ? [] : [{ what, how }]));
}

/** What a result says of the network. Its weights are compared as such, and the machine's speed is nobody's claim. */
function told({ top1, top5, loss, best }: RunResult): object {
  return { top1, top5, loss, best };
}

/** Where the images lie is nobody's claim. */
function countsOf({ dataset }: Outcome): object {
  return Object.fromEntries(COUNTED.map(key => [key, dataset[key]]));
}

/** The first row that differs, of the steps and epochs. How fast the machine was is not compared. */
function metricsDifference(there: Outcome['metrics'], here: Outcome['metrics']): string | undefined {
  const differing = there.flatMap((row, i) =>
    i < here.length && rowDifference(row, here[i]) !== undefined ? [i] : [],
  );
  if (differing.length > 0) {
    const [first] = differing;
    const { kind, step, epoch } = there[first];
    const more = differing.length === 1 ? '' : `; ${differing.length} of ${counted(there.length, 'row')} differ`;
    return `first at ${kind === 'step' ? `step ${step}` : `the end of epoch ${epoch}`}: ${rowDifference(there[first], here[first])}${more}`;
  }
  return there.length === here.length ? undefined : `${counted(there.length, 'row')} there, ${here.length} here`;
}

function rowDifference(there: Outcome['metrics'][number], here: Outcome['metrics'][number]): string | undefined {
  return valueDifference({ ...there, imagesPerSecond: null }, { ...here, imagesPerSecond: null });
}

function predictionsDifference(there: Outcome['predictions'], here: Outcome['predictions']): string | undefined {
  const count = there.labels.length;
  if (count !== here.labels.length) return `${counted(count, 'image')} there, ${here.labels.length} here`;
  const said = ({ labels, top, probabilities }: Outcome['predictions'], i: number) => ({
    label: labels[i],
    top: top[i],
    probabilities: probabilities[i],
  });
  const differing = Array.from({ length: count }, (_, i) => i).filter(
    i => valueDifference(said(there, i), said(here, i)) !== undefined,
  );
  return differing.length === 0
    ? undefined
    : `of ${differing.length} of ${counted(count, 'image')}, first of number ${differing[0] + 1}: ${valueDifference(said(there, differing[0]), said(here, differing[0]))}`;
}

function weightsDifference(there: Outcome, here: Outcome): string | undefined {
  const digests =
    there.result.weights === here.result.weights
      ? undefined
      : `sha256 ${there.result.weights.slice(0, 12)} there, ${here.result.weights.slice(0, 12)} here`;
  const tensors = there.weights.equals(here.weights) ? undefined : tensorsDifference(there.weights, here.weights);
  return digests && tensors ? `${digests}; ${tensors}` : (digests ?? tensors);
}

function tensorsDifference(there: Buffer, here: Buffer): string {
  const before = decodeTensors('the weights in the bundle', there).tensors;
  const now = decodeTensors('the weights of the replay', here).tensors;
  const names = Object.keys(before);
  const lone = [...names.filter(name => !(name in now)), ...Object.keys(now).filter(name => !(name in before))];
  if (lone.length > 0) return `'${lone[0]}' is in one alone`;
  const distances = names.map(name => ({ name, distance: largestDistance(before[name].data, now[name].data) }));
  const differing = distances.filter(({ distance }) => distance > 0);
  if (differing.length === 0) return 'the files differ, their values do not';
  const largest = differing.reduce((most, each) => (each.distance > most.distance ? each : most));
  return `${differing.length} of ${counted(names.length, 'tensor')}; the largest difference is ${largest.distance.toExponential(1)}, in ${largest.name}`;
}

function largestDistance(there: ArrayLike<number | bigint>, here: ArrayLike<number | bigint>): number {
  if (there.length !== here.length) return Infinity;
  let largest = 0;
  for (let i = 0; i < there.length; i++) largest = Math.max(largest, Math.abs(Number(there[i]) - Number(here[i])));
  return largest;
}

/** The first place, depth first, where two values of JSON differ: `loss is 1.25 there, 1.5 here, 2.5e-1 apart`. */
function valueDifference(there: unknown, here: unknown, path = ''): string | undefined {
  if (isObject(there) && isObject(here)) {
    for (const key of new Set([...Object.keys(there), ...Object.keys(here)])) {
      const inside = valueDifference(there[key], here[key], path === '' ? key : `${path}.${key}`);
      if (inside !== undefined) return inside;
    }
    return undefined;
  }
  if (there === here) return undefined;
  const apart =
    typeof there === 'number' && typeof here === 'number' ? `, ${Math.abs(there - here).toExponential(1)} apart` : '';
  return `${path} is ${describe(there)} there, ${describe(here)} here${apart}`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function describe(value: unknown): string {
  return value === undefined ? 'missing' : JSON.stringify(value);
}

/** A difference of surroundings: one that `decides` may be the reason for other bytes, any other is information. */
export interface Circumstance extends Difference {
  decides: boolean;
}

/** What of the environment, the code and the images differs: the reasons that there can be for other bytes first. */
export function circumstances(
  there: Bundle,
  here: { environment: Environment; fingerprint: string; sources: ReadonlyMap<string, Buffer> },
): Circumstance[] {
  const { environment: before, dataset } = there.run;
  const code = sourcesDifference(there.sources, here.sources);
  const differences = environmentDifferences(before, here.environment).map(({ field, what, how, decides }) => ({
    what,
    how: field === 'code' && code !== undefined ? code : how,
    decides,
  }));
  if (code !== undefined && !differences.some(({ what }) => what === FIELDS.code.name))
    differences.push({ what: 'project files', how: code, decides: false });
  if (dataset.fingerprint !== here.fingerprint) {
    const [before, now] = [dataset.fingerprint, here.fingerprint].map(each => each.slice(0, 12));
    differences.push({ what: 'images', how: `fingerprint ${before} there, ${now} here`, decides: true });
  }
  return differences.sort((a, b) => Number(b.decides) - Number(a.decides));
}

/** The lock file is one of the sources. */
function sourcesDifference(there: ReadonlyMap<string, Buffer>, here: ReadonlyMap<string, Buffer>): string | undefined {
  const changed = [...there]
    .filter(([path, bytes]) => here.has(path) && !here.get(path)!.equals(bytes))
    .map(([path]) => path);
  const missing = [...there.keys()].filter(path => !here.has(path));
  const added = [...here.keys()].filter(path => !there.has(path));
  const list = Object.entries({ changed, 'only there': missing, 'only here': added }).filter(
    ([, paths]) => paths.length > 0,
  );
  return list.length === 0 ? undefined : list.map(([how, paths]) => `${how}: ${paths.join(', ')}`).join('; ');
}
