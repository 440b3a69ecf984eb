import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { openDataset, parseDataset } from '../../data/open';
import { NUMERICS } from '../../runs/environment';
import { absoluteData } from '../../runs/portable';
import { RESULTS, readResults, type TrialResult } from '../../runs/trialResults';
import { planTraining } from '../../train/plan';
import { resolveRecipe } from '../../train/recipe';
import { createTrainer } from '../../train/trainer';
import { UserError } from '../../util/errors';
import { allowedNames } from '../../util/suggest';
import { counted } from '../../util/text';

/** A published row that can be trained again. */
interface PublishedRow {
  /** `lgl-petals/noLocalAgg/0`: file, variant and seed. */
  name: string;
  row: TrialResult & { origin: NonNullable<TrialResult['origin']> };
}

/** Rows of these numerics, of all files of results, and in words what of them is left out. */
export function publishedRows(folder = RESULTS): { rows: PublishedRow[]; skipped: string[] } {
  const files = readdirSync(folder).filter(file => file.endsWith('.json') && file !== 'tradeoffs.json');
  const rows: PublishedRow[] = [];
  const skipped: string[] = [];
  for (const file of files.sort()) {
    const experiment = basename(file, '.json');
    const all = readResults(join(folder, file));
    for (const row of all)
      if (row.origin && row.numerics === NUMERICS)
        rows.push({ name: `${experiment}/${row.variant}/${row.seed}`, row: { ...row, origin: row.origin } });
    const others = all.filter(({ numerics }) => numerics !== NUMERICS);
    if (others.length > 0)
      skipped.push(
        `${counted(others.length, 'row')} of ${experiment}: of numerics ${[...new Set(others.map(({ numerics }) => numerics))].join(', ')}, and this checkout computes by ${NUMERICS}`,
      );
  }
  return { rows, skipped };
}

/** So many rows, evenly spread, or the one of a name. Throws UserError for a name that no row has. */
export function chooseRows(rows: readonly PublishedRow[], wanted: string): PublishedRow[] {
  if (/^[1-9]\d*$/.test(wanted)) {
    const count = Math.min(Number(wanted), rows.length);
    return Array.from({ length: count }, (_, i) => rows[Math.floor((i * rows.length) / count)]!);
  }
  const chosen = rows.filter(({ name }) => name === wanted);
  if (chosen.length > 0) return chosen;
  throw new UserError(
    `No published row of numerics ${NUMERICS} is named '${wanted}': ${allowedNames(
      wanted,
      rows.map(({ name }) => name),
    )}`,
  );
}

/** Whether a row's images come with the lab, or are where its recipe says. */
const isHere = (data: string): boolean => {
  const { kind, path } = parseDataset(data);
  return kind === 'petals' || (kind === 'folder' && existsSync(path));
};

/**
 * Trains a row again: the beginning of the sha256 of its weights. A string that says why where its images are not here; `data` says where they are.
 * Throws UserError where those are other images.
 */
export async function retrain(
  { name, row: { origin } }: PublishedRow,
  data: string | undefined,
): Promise<{ weights: string } | string> {
  const given = data === undefined ? undefined : absoluteData(data);
  if (given === undefined && !isHere(origin.recipe.data))
    return `its images (${origin.recipe.data}) are not here: --data`;
  const recipe = resolveRecipe({ ...origin.recipe, data: given ?? origin.recipe.data });
  const dataset = await openDataset(recipe.data, origin.dataOptions);
  if (dataset.fingerprint !== origin.fingerprint)
    throw new UserError(
      `The row '${name}' was trained on images of the fingerprint ${origin.fingerprint.slice(0, 12)}; those of '${recipe.data}' have ${dataset.fingerprint.slice(0, 12)}.`,
    );
  const trainer = createTrainer(planTraining(recipe, dataset));
  try {
    for await (const _ of trainer.events());
    return { weights: trainer.digest() };
  } finally {
    trainer.dispose();
  }
}

/** Trains rows again, one after the other; whether all that could be end at the weights that were published. */
export async function verifyRows(
  wanted: string,
  data: string | undefined,
  say: (line: string) => void,
): Promise<boolean> {
  const { rows, skipped } = publishedRows();
  let same = 0;
  let trained = 0;
  for (const published of chooseRows(rows, wanted)) {
    const { name, row } = published;
    const begin = performance.now();
    const again = await retrain(published, data);
    if (typeof again === 'string') {
      skipped.push(`${name}: ${again}`);
      continue;
    }
    trained++;
    const isSame = again.weights.startsWith(row.weights);
    if (isSame) same++;
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    say(`${isSame ? 'same     ' : 'DIFFERENT'} ${name.padEnd(32)} ${row.weights} ${seconds.padStart(5)} s`);
    if (!isSame)
      say(`          weights ${row.weights} as published, ${again.weights.slice(0, row.weights.length)} here`);
  }
  for (const reason of skipped) say(`skipped   ${reason}`);
  say(`${same} of ${counted(trained, 'published row')} the same to the byte (numerics ${NUMERICS})`);
  return trained > 0 && same === trained;
}
