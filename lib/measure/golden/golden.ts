import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { Failure } from '../../util/errors';
import { parseOptions } from '../../util/options';
import { ROOT } from '../../util/root';
import { hostChecks } from './host';
import { kernelChecks } from './kernels';
import { networkChecks } from './networks';
import { type Check, type Parts, sha256 } from './parts';
import { trainingChecks } from './trainings';

/** What every machine has to compute: written by `npm run verify -- --update`, where a change is meant to alter bytes. */
export const GOLDEN = join(ROOT, 'test/golden.json');

const schema = z.strictObject({
  numerics: z.number().int(),
  checks: z.record(z.string(), z.strictObject({ sha256: z.string(), parts: z.record(z.string(), z.string()) })),
});

export type Golden = z.output<typeof schema>;

/** Throws a Failure where there are none yet. */
export function readGolden(path = GOLDEN): Golden {
  if (!existsSync(path)) throw new Failure(`${path} is not here: npm run verify -- --update writes it.`);
  return parseOptions(schema, JSON.parse(readFileSync(path, 'utf8')), path);
}

/** One check a line, so that a diff names the checks that changed. */
export function formatGolden({ numerics, checks }: Golden): string {
  const lines = Object.entries(checks).map(([name, check]) => `    ${JSON.stringify(name)}: ${JSON.stringify(check)}`);
  return `{\n  "numerics": ${numerics},\n  "checks": {\n${lines.join(',\n')}\n  }\n}\n`;
}

/** All there are, the quick ones first. */
export const allChecks = (): Check[] => [...hostChecks(), ...kernelChecks(), ...networkChecks(), ...trainingChecks()];

/** Over names and values of all parts, in their order. */
export const digestParts = (parts: Parts): string => sha256(JSON.stringify(Object.entries(parts)));

/** What differs first between what was expected and what was found, in words; undefined where nothing does. */
export function firstDifference(expected: Parts, found: Parts): string | undefined {
  const names = [...new Set([...Object.keys(expected), ...Object.keys(found)])];
  const differing = names.filter(name => expected[name] !== found[name]);
  const [first] = differing;
  if (first === undefined) return undefined;
  const shown = (value: string | undefined) => (value === undefined ? 'missing' : value.slice(0, 20));
  return `${first}: ${shown(expected[first])} expected, ${shown(found[first])} here; ${differing.length} of ${names.length} differ`;
}
