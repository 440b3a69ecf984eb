import { existsSync, readFileSync } from 'node:fs';
import { z } from 'zod';
import { UserError } from '../../util/errors';
import { writeFileAtomic } from '../../util/files';
import type { Language } from '../install/register';
import { parseKeepingNumbers, stringifyKeptNumbers } from './numbers';

/**
 * Jupyter's notebook format 4 (https://nbformat.readthedocs.io), as far as the runner reads it; what it does not know stays as it is. What
 * tools forget to write is what nbformat takes it for.
 */
const textSchema = z.union([z.string(), z.array(z.string()).transform(lines => lines.join(''))]);
const count = z.number().nullable().default(null);
const metadataSchema = z.looseObject({ tags: z.array(z.string()).optional() });
const bundle = z.record(z.string(), z.unknown()).default({});
const outputSchema = z.discriminatedUnion('output_type', [
  z.looseObject({ output_type: z.literal('stream'), name: z.string().default('stdout'), text: textSchema }),
  z.looseObject({ output_type: z.literal('display_data'), data: bundle, metadata: bundle }),
  z.looseObject({ output_type: z.literal('execute_result'), data: bundle, metadata: bundle, execution_count: count }),
  z.looseObject({
    output_type: z.literal('error'),
    ename: z.string(),
    evalue: z.string(),
    traceback: z.array(z.string()).default([]),
  }),
]);
const codeCellSchema = z.looseObject({
  cell_type: z.literal('code'),
  source: textSchema.default(''),
  metadata: metadataSchema.default({}),
  outputs: z.array(outputSchema).default([]),
  execution_count: count,
});
const proseCellSchema = z.looseObject({
  cell_type: z.enum(['markdown', 'raw']),
  source: textSchema.default(''),
  metadata: metadataSchema.default({}),
});
const notebookSchema = z.looseObject({
  nbformat: z.literal(4),
  nbformat_minor: z.number().int().default(0),
  metadata: z
    .looseObject({
      kernelspec: z.looseObject({ name: z.string(), language: z.string().optional() }).optional(),
      language_info: z.looseObject({ name: z.string() }).optional(),
    })
    .default({}),
  cells: z.array(z.discriminatedUnion('cell_type', [codeCellSchema, proseCellSchema])),
});

export type Output = z.infer<typeof outputSchema>;
export type CodeCell = z.infer<typeof codeCellSchema>;
export type Notebook = z.infer<typeof notebookSchema>;

/** Reads a notebook in TypeScript or JavaScript. Multi-line texts become single strings. Throws a UserError that says why it is none. */
export function readNotebook(path: string): Notebook {
  if (!existsSync(path)) throw new UserError(`There is no notebook ${path}.`);
  let json: unknown;
  try {
    json = parseKeepingNumbers(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new UserError(`${path} is no notebook: ${(error as Error).message}.`);
  }
  const { success, data, error } = notebookSchema.safeParse(json);
  if (!success)
    throw new UserError(
      `${path} is no notebook of format 4: ${error.issues[0].path.join('.') || 'it'}: ${error.issues[0].message}.`,
    );
  if (languageOf(data) === undefined)
    throw new UserError(
      `${path} is written for the kernel '${data.metadata.kernelspec?.name}', not for TypeScript or JavaScript.`,
    );
  for (const output of data.cells.flatMap(cell => (cell.cell_type === 'code' ? cell.outputs : [])))
    if ('data' in output) output.data = joined(output.data as Record<string, unknown>);
  return data;
}

/** What its cells are written in, by the kernel that it names: ours, tslab's or any other of the language. Nothing if it is neither. */
export function languageOf({ metadata: { kernelspec, language_info } }: Notebook): Language | undefined {
  if (!kernelspec) return language_info?.name === 'javascript' ? 'javascript' : 'typescript';
  const named = `${kernelspec.language} ${kernelspec.name}`;
  if (/javascript|jslab|edgevit-lab-js/i.test(named)) return 'javascript';
  return /typescript|tslab|edgevit/i.test(named) ? 'typescript' : undefined;
}

/** Writes it as Jupyter does, so that it has the same bytes whoever saved it: sorted keys, texts as lists of lines. */
export function writeNotebook(path: string, notebook: Notebook): void {
  const cells = notebook.cells.map(cell => ({
    ...cell,
    source: lines(cell.source),
    ...(cell.cell_type === 'code' ? { outputs: cell.outputs.map(storedOutput) } : {}),
  }));
  writeFileAtomic(path, `${stringifyKeptNumbers(sorted({ ...notebook, cells }))}\n`);
}

const isJson = (mime: string): boolean => /^application\/(.*\+)?json$/.test(mime);
const lines = (text: string): string[] => text.match(/[^\n]*\n|[^\n]+$/g) ?? [];

function joined(data: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(data).map(([mime, value]) => [mime, Array.isArray(value) && !isJson(mime) ? value.join('') : value]),
  );
}

function storedOutput(output: Output): object {
  if (output.output_type === 'stream') return { ...output, text: lines(output.text) };
  if (output.output_type === 'error') return output;
  const data = Object.entries(output.data).map(([mime, value]) => [
    mime,
    typeof value === 'string' && /^text\/|^image\/svg\+xml$/.test(mime) ? lines(value) : value,
  ]);
  return { ...output, data: Object.fromEntries(data) };
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, entry]) => [key, sorted(entry)]),
  );
}
