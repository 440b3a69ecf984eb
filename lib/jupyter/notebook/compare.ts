import { isDeepStrictEqual } from 'node:util';
import sharp from 'sharp';
import type { CodeCell, Notebook, Output } from './notebook';
import { plainNumbers } from './numbers';

/** One place where the outputs of two runs of a notebook differ. */
export interface Difference {
  /** `cell [3], text/plain`. */
  where: string;
  before: string;
  after: string;
}

/** Outputs of cells with this tag are not compared: they hold times, say. (nbval's tag.) */
const IGNORE = 'nbval-ignore-output';
const NUMBER = /[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?/gi;
const INLINE_PICTURE = /data:image\/(?:png|jpeg);base64,([A-Za-z0-9+/=]+)/g;
const VEGA_LITE = /^application\/vnd\.vegalite/;

/**
 * Compares what two runs of the same notebook have shown. Numbers in texts and charts may differ by `tolerance`, relative to the
 * larger one; images by as much of the full range, on average over their pixels.
 */
export async function compareNotebooks(before: Notebook, after: Notebook, tolerance: number): Promise<Difference[]> {
  const code = ({ cells }: Notebook): CodeCell[] => cells.filter((cell): cell is CodeCell => cell.cell_type === 'code');
  const [old, now] = [code(before), code(after)];
  if (old.length !== now.length)
    return [{ where: 'the notebook', before: `${old.length} code cells`, after: `${now.length} code cells` }];
  const differences: Difference[] = [];
  for (const [i, cell] of now.entries()) {
    if (cell.metadata.tags?.includes(IGNORE)) continue;
    const where =
      cell.execution_count === null
        ? `the cell that begins '${cell.source.split('\n')[0]}'`
        : `cell [${cell.execution_count}]`;
    const [was, is] = [old[i].outputs.map(forms), cell.outputs.map(forms)];
    const kinds = (outputs: Forms[]): string =>
      outputs.map(output => Object.keys(output).join(' + ')).join(', ') || 'no outputs';
    if (kinds(was) !== kinds(is)) {
      differences.push({ where, before: kinds(was), after: kinds(is) });
      continue;
    }
    for (const [o, output] of is.entries()) {
      for (const [form, value] of Object.entries(output)) {
        if (await agree(was[o][form], value, form, tolerance)) continue;
        differences.push({ where: `${where}, ${form}`, ...excerpt(was[o][form], value, tolerance) });
      }
    }
  }
  return differences;
}

type Forms = Record<string, unknown>;

/** What is compared of an output, by the kind of each part. A chart's image is left out: it follows from the chart. */
function forms(output: Output): Forms {
  if (output.output_type === 'stream') return { [output.name]: output.text };
  if (output.output_type === 'error') return { error: `${output.ename}: ${output.evalue}` };
  const entries = Object.entries(output.data).sort(([a], [b]) => (a < b ? -1 : 1));
  const isChart = entries.some(([mime]) => VEGA_LITE.test(mime));
  return Object.fromEntries(isChart ? entries.filter(([mime]) => mime !== 'image/svg+xml') : entries);
}

async function agree(before: unknown, after: unknown, form: string, tolerance: number): Promise<boolean> {
  if (isDeepStrictEqual(before, after)) return true;
  if (form === 'image/png') return samePicture(String(before), String(after), tolerance);
  if (typeof before !== 'string' || typeof after !== 'string')
    return sameJson(plainNumbers(before), plainNumbers(after), tolerance);
  const pictures = [before, after].map(text => [...text.matchAll(INLINE_PICTURE)].map(([, base64]) => base64));
  if (pictures[0].length !== pictures[1].length) return false;
  for (const [i, picture] of pictures[0].entries())
    if (!(await samePicture(picture, pictures[1][i], tolerance))) return false;
  return sameText(before, after, tolerance);
}

function sameText(before: string, after: string, tolerance: number): boolean {
  const [was, is] = [before, after].map(text =>
    text.replace(INLINE_PICTURE, 'picture').replace(/chart-[0-9a-f]{8}-/g, 'chart-'),
  );
  const words = (text: string): string => text.replace(NUMBER, '#').replace(/[\s─#]+/g, ' ');
  if (words(was) !== words(is)) return false;
  const numbers = [was, is].map(text => (text.match(NUMBER) ?? []).map(number => Number(number.replaceAll(',', ''))));
  return (
    numbers[0].length === numbers[1].length && numbers[0].every((number, i) => close(number, numbers[1][i], tolerance))
  );
}

function sameJson(before: unknown, after: unknown, tolerance: number): boolean {
  if (typeof before === 'number' && typeof after === 'number') return close(before, after, tolerance);
  if (typeof before === 'string' && typeof after === 'string') return sameText(before, after, tolerance);
  if (typeof before !== 'object' || typeof after !== 'object' || before === null || after === null)
    return before === after;
  const keys = Object.keys(before);
  return (
    isDeepStrictEqual(keys.sort(), Object.keys(after).sort()) &&
    keys.every(key => sameJson((before as Forms)[key], (after as Forms)[key], tolerance))
  );
}

/** What is small beside 1 is compared as if it were a thousandth: a loss that has come to nothing has no digits left to agree. */
function close(a: number, b: number, tolerance: number): boolean {
  return Object.is(a, b) || a === b || Math.abs(a - b) <= tolerance * Math.max(Math.abs(a), Math.abs(b), 1e-3);
}

async function samePicture(before: string, after: string, tolerance: number): Promise<boolean> {
  if (before.trim() === after.trim()) return true;
  const [was, is] = await Promise.all(
    [before, after].map(base64 =>
      sharp(Buffer.from(base64, 'base64')).removeAlpha().raw().toBuffer({ resolveWithObject: true }),
    ),
  );
  if (was.info.width !== is.info.width || was.info.height !== is.info.height || was.data.length !== is.data.length)
    return false;
  let difference = 0;
  for (let i = 0; i < was.data.length; i++) difference += Math.abs(was.data[i] - is.data[i]);
  return difference <= tolerance * 255 * was.data.length;
}

/** The first lines that differ. */
function excerpt(before: unknown, after: unknown, tolerance: number): { before: string; after: string } {
  const [was, is] = [before, after].map(value =>
    (typeof value === 'string' ? value : JSON.stringify(value, null, 1)).split('\n'),
  );
  const at = Math.max(
    0,
    was.findIndex((line, i) => is[i] === undefined || !sameText(line, is[i], tolerance)),
  );
  const show = (lines: string[]): string => {
    const line = lines[at] ?? '(nothing)';
    return line.length > 160 ? `${line.slice(0, 160)}…` : line;
  };
  return { before: show(was), after: show(is) };
}
