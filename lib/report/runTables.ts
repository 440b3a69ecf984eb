import { contradictionOf } from '../runs/consistency';
import { decimals, duration, percent } from '../runs/console';
import { readNote } from '../runs/manage';
import type { Run } from '../runs/store';
import { UserError } from '../util/errors';
import { flattenRecord } from '../util/records';
import { textTable } from '../util/tables';
import { printable } from '../util/text';

/** Makes text stand out in its place in a line. */
export type Highlight = (text: string) => string;

/** Runs as a table. The name, which may be long, comes last, and a note after it, so that a narrow terminal breaks nothing else. */
export function listTable(runs: readonly Run[]): string {
  const rows = runs.map(run => {
    const { name, recipe, dataset, started } = run.record;
    return {
      status: run.status,
      model: recipe.ablation === null ? recipe.model : `${recipe.model} ${recipe.ablation}`,
      data: dataset.name,
      size: [recipe.size].flat().join('×'),
      epochs: epochsDone(run),
      seed: String(recipe.seed),
      top1: headline(run),
      began: minute(started),
      name,
      note: readNote(run),
    };
  });
  const table = textTable<string>(
    {
      status: 'status',
      model: 'model',
      data: 'data',
      size: 'px',
      epochs: 'epochs',
      seed: 'seed',
      top1: 'top-1',
      began: 'began',
      name: 'run',
      ...(rows.some(({ note }) => note !== '') && { note: 'note' }),
    },
    rows,
  );
  return rows.some(({ top1 }) => top1.endsWith(DOUBTED))
    ? `${table}\n\n${DOUBTED} evaluation.json says other than run.json`
    : table;
}

const DOUBTED = '?';

/** Top-1 as run.json has it, marked where the evaluation beside it has another: a list has no time to count predictions again. */
function headline(run: Run): string {
  const { result } = run.record;
  if (!result) return '–';
  let counted: number | undefined;
  try {
    counted = run.evaluation()?.top1;
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
  }
  return `${percent(result.top1)}${counted === result.top1 ? '' : ` ${DOUBTED}`}`;
}

/** Why what a run states is not to be believed, in words. */
function doubt(run: Run): string | undefined {
  try {
    return contradictionOf(run);
  } catch (error) {
    if (error instanceof UserError) return error.message.replace(/\.$/, '');
    throw error;
  }
}

/**
 * What runs came to, and below it where their configurations and environments differ: values unlike the first run's are marked by `*`, or made to
 * stand out by `highlight`; what is equal is left out. Of one run alone, all is shown.
 */
export function comparison(runs: readonly Run[], highlight?: Highlight): string {
  const sections = [
    resultsTable(runs),
    ...runs.flatMap(({ record: { error } }, i) => (error === null ? [] : [`${label(i)} failed: ${printable(error)}`])),
    ...runs.flatMap((run, i) => {
      const contradicts = doubt(run);
      return contradicts === undefined ? [] : [`${label(i)} contradicts itself: ${contradicts}`];
    }),
    ...runs.flatMap((run, i) => (readNote(run) === '' ? [] : [`${label(i)} note: ${readNote(run)}`])),
  ];
  const equal: string[] = [];
  for (const [what, parts] of Object.entries({
    configuration: runs.map(configuration),
    environment: runs.map(surroundings),
  })) {
    const keys = [...new Set(parts.flatMap(part => [...part.keys()]))];
    const shown =
      runs.length === 1 ? keys : keys.filter(key => parts.some(part => part.get(key) !== parts[0].get(key)));
    if (shown.length > 0) sections.push(settingsTable(what, shown, parts, highlight));
    if (shown.length < keys.length) equal.push(`${keys.length - shown.length} of the ${what}`);
  }
  if (equal.length > 0) sections.push(`Equal: ${equal.join(', ')}.`);
  return sections.join('\n\n');
}

function resultsTable(runs: readonly Run[]): string {
  const rows = runs.map((run, i) => {
    const { name, result, started, ended } = run.record;
    return {
      label: label(i),
      status: run.status,
      epochs: epochsDone(run),
      top1: result ? percent(result.top1) : '–',
      top5: result ? percent(result.top5) : '–',
      loss: result ? decimals(result.loss, 4) : '–',
      speed: result?.imagesPerSecond ? result.imagesPerSecond.toFixed(1) : '–',
      took: ended === null ? '–' : duration((Date.parse(ended) - Date.parse(started)) / 1000),
      weights: result ? short(result.weights) : '–',
      name,
    };
  });
  return textTable(
    {
      label: '',
      status: 'status',
      epochs: 'epochs',
      top1: 'top-1',
      top5: 'top-5',
      loss: 'loss',
      speed: 'img/s',
      took: 'took',
      weights: 'weights',
      name: 'run',
    },
    rows,
  );
}

type Settings = ReadonlyMap<string, string>;

function settingsTable(
  what: string,
  keys: readonly string[],
  parts: readonly Settings[],
  highlight?: Highlight,
): string {
  const differs = (key: string, i: number): boolean => parts[i].get(key) !== parts[0].get(key);
  const rows = keys.map(key => ({
    what: key,
    ...Object.fromEntries(
      parts.map((part, i) => [label(i), `${part.get(key) ?? '–'}${differs(key, i) && !highlight ? '*' : ''}`]),
    ),
  }));
  const columns = { what, ...Object.fromEntries(parts.map((_, i) => [label(i), label(i)])) };
  return textTable<string>(columns, rows, (text, row, column) =>
    highlight && column > 0 && differs(keys[row], column - 1) ? highlight(text) : text,
  );
}

/** All that was asked of a run. Settings of the model are among those of its whole configuration. */
function configuration({ record: { recipe, model, dataset, init } }: Run): Settings {
  const { modelSettings: _, data, ...own } = recipe;
  const { fingerprint, train, test, val } = dataset;
  return flatten({
    ...own,
    ...model.config,
    outputs: model.outputs,
    params: model.params,
    macs: model.macs,
    data,
    pictures: { fingerprint, train, test, val },
    init,
  });
}

/** What a run was trained in; where that changed by force, what it was first and from which step it was something else. */
function surroundings({ record: { environment, segments } }: Run): Settings {
  const first = flatten(environment);
  const told = new Map(first);
  let before = first;
  for (const segment of segments) {
    const next = flatten(segment.environment);
    for (const key of new Set([...before.keys(), ...next.keys()])) {
      if (next.get(key) === before.get(key)) continue;
      told.set(key, `${told.get(key) ?? '–'}; after step ${segment.step} ${next.get(key) ?? '–'}`);
    }
    before = next;
  }
  return told;
}

/** `{ a: { b: [1, 2] } }` → `a.b` is `1,2`; of digests the beginning. */
function flatten(value: object): Map<string, string> {
  return new Map(
    flattenRecord(value).map(([path, inner]) => [path, inner === null ? '–' : short(String(inner))] as const),
  );
}

/** The beginning of a digest; other text as it is. */
function short(text: string): string {
  return /^[0-9a-f]{40,}$/.test(text) ? text.slice(0, 12) : text;
}

/** By which tables speak of a run. */
function label(i: number): string {
  return `[${i + 1}]`;
}

/** `8`, or `3/8` where not all are done. */
function epochsDone(run: Run): string {
  const { epochs } = run.record.recipe;
  if (run.status === 'done') return String(epochs);
  try {
    return `${run.epochs().length}/${epochs}`;
  } catch (error) {
    if (error instanceof UserError) return `?/${epochs}`; // its metrics are broken, which is no reason to show no run
    throw error;
  }
}

/** `2026-11-24 19:02`, as clocks here show it. */
function minute(time: string): string {
  return new Date(time).toLocaleString('sv-SE', { dateStyle: 'short', timeStyle: 'short' });
}
