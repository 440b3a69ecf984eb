import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Plan } from '../measure/latency';
import { machineSchema, measureLatency, timesSchema } from '../measure/latencyTable';
import { UserError } from '../util/errors';
import { writeFileAtomic } from '../util/files';
import { RESULTS } from './trialResults';

const positive = z.number().positive();

const schema = z.strictObject({
  machine: machineSchema,
  size: z.tuple([positive, positive]),
  models: z.array(
    z.strictObject({
      model: z.string(),
      classes: z.number().int(),
      params: positive,
      /** Per image. */
      macs: positive,
      /** Of one image, compiled. */
      ...timesSchema,
    }),
  ),
});

export type Tradeoffs = z.infer<typeof schema>;

export const TRADEOFFS_FILE = join(RESULTS, 'tradeoffs.json');

/** Counts networks, and times one prediction of each, compiled. Throws UserError for names and sizes that do not exist or fit. */
export async function measureTradeoffs(
  models: readonly string[],
  size: readonly [number, number],
  plan?: Plan,
): Promise<Tradeoffs> {
  const { machine, rows } = await measureLatency({ models, engines: ['compiled'], size, plan });
  return { machine, size: [...size], models: rows.map(({ engine: _, timings: __, ...row }) => row) };
}

export function writeTradeoffs(tradeoffs: Tradeoffs): void {
  const { models, ...rest } = tradeoffs;
  const rows = models.map(row => `    ${JSON.stringify(row)}`).join(',\n');
  writeFileAtomic(TRADEOFFS_FILE, `${JSON.stringify(rest, null, 2).slice(0, -2)},\n  "models": [\n${rows}\n  ]\n}\n`);
}

/** What was measured last. Throws UserError where there is nothing, or something else. */
export function readTradeoffs(): Tradeoffs {
  if (!existsSync(TRADEOFFS_FILE))
    throw new UserError(`There is no ${TRADEOFFS_FILE}: npm run experiment -- tradeoffs measures it.`);
  const { success, data, error } = schema.safeParse(JSON.parse(readFileSync(TRADEOFFS_FILE, 'utf8')));
  if (!success)
    throw new UserError(
      `${TRADEOFFS_FILE} holds something else: ${error.issues[0].path.join('.')}: ${error.issues[0].message}.`,
    );
  return data;
}
