import { readFileSync, statSync } from 'node:fs';
import { parse } from 'csv-parse/sync';
import { UserError } from '../../util/errors';
import { counted } from '../../util/text';
import type { ImageFile } from './walk';

/** A table that says what images show. */
export interface LabelFile {
  /** Its path, for messages. */
  file: string;
  rows: LabelRow[];
}

export interface LabelRow {
  /** Undefined where the table has labels alone: they follow the order of the files' names. */
  image?: string;
  label: string;
  /** As the table says it: `train`, `valid`, … */
  split?: string;
}

/** Headings of columns, in lower case and without spaces, hyphens and underscores, as tables that are handed round have them. */
const IMAGE_COLUMNS = [
  'filename',
  'file',
  'filepath',
  'filenames',
  'path',
  'image',
  'imageid',
  'imagename',
  'imagepath',
  'img',
  'id',
  'name',
];
const LABEL_COLUMNS = [
  'label',
  'labels',
  'class',
  'classname',
  'classid',
  'category',
  'species',
  'breed',
  'target',
  'wnid',
  'synset',
  'predictionstring',
];
const SPLIT_COLUMNS = ['split', 'set', 'subset', 'partition', 'dataset', 'datasplit'];

const MAX_TABLE_BYTES = 256e6;

const heading = (cell: string): string => cell.toLowerCase().replace(/[\s_-]/g, '');

/** Columns between commas, tabs, semicolons or spaces, whichever the first line has; quotes as in CSV. */
function cells(text: string, file: string): string[][] {
  const first = text.slice(0, text.search(/[\r\n]|$/));
  const delimiter = ['\t', ',', ';'].find(each => first.includes(each));
  if (delimiter === undefined)
    return text
      .replace(/^\ufeff/, '')
      .split(/\r\n|\n|\r/)
      .map(line => line.trim().split(/\s+/))
      .filter(([cell]) => cell !== '');
  try {
    return parse(text, {
      bom: true,
      delimiter,
      relax_column_count: true,
      relax_quotes: true,
      skip_empty_lines: true,
      trim: true,
    }) as string[][];
  } catch (error) {
    throw new UserError(`${file} can't be read as a table (${(error as Error).message}).`);
  }
}

/**
 * Reads labels of images: CSV, or columns between tabs, semicolons or spaces. With headings, the columns are found by them; without, the
 * first is the image and the second its label, or the only one the labels of the images in the order of their names. Throws UserError.
 */
export function readLabels(file: string): LabelFile {
  let text: string;
  try {
    const stats = statSync(file);
    if (!stats.isFile()) throw new UserError(`labels=${file} is no file.`);
    if (stats.size > MAX_TABLE_BYTES)
      throw new UserError(`labels=${file} has ${(stats.size / 1e6).toFixed(0)} MB: a table of labels is expected.`);
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`labels=${file} can't be read (${(error as NodeJS.ErrnoException).code}).`);
  }
  if (text.includes('\0')) throw new UserError(`labels=${file} is no text: a table of images and labels is expected.`);
  const table = cells(text, file);
  if (table.length === 0) throw new UserError(`labels=${file} is empty.`);
  const headings = table[0].map(heading);
  const find = (known: readonly string[]): number =>
    known.map(each => headings.indexOf(each)).find(at => at >= 0) ?? -1;
  const image = find(IMAGE_COLUMNS),
    label = find(LABEL_COLUMNS),
    split = find(SPLIT_COLUMNS);
  if (image >= 0 && label < 0 && headings.length > 1)
    throw new UserError(
      `${file} has the columns ${table[0].join(', ')}, and none for labels: one named ${LABEL_COLUMNS.slice(0, 5).join(', ')} is expected.`,
    );
  if (image >= 0 && label >= 0) {
    const isPrediction = headings[label] === 'predictionstring'; // a class and its boxes, as ImageNet's table at Kaggle has them
    return {
      file,
      rows: table.slice(1).map((row, i) => {
        const value = row[label] ?? '';
        const name = row[image] ?? '';
        if (name === '' || value === '') throw new UserError(`${file} lacks an image or a label in row ${i + 2}.`);
        return {
          image: name,
          label: isPrediction ? value.split(/\s/)[0] : value,
          ...(split >= 0 && { split: row[split] ?? '' }),
        };
      }),
    };
  }
  if (table.every(row => row.length === 1)) return { file, rows: table.map(([value]) => ({ label: value })) };
  return {
    file,
    rows: table.map((row, i) => {
      if (row.length < 2) throw new UserError(`${file} lacks a label in row ${i + 1}.`);
      return { image: row[0], label: row[1] };
    }),
  };
}

const withoutExtension = (path: string): string => path.replace(/\.[^./]*$/, '');
const lastPart = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
/** Names that look the same are the same: macOS writes accents apart. */
const plain = (path: string): string => path.normalize('NFC');

/** An image with its row. */
export interface Labelled extends ImageFile {
  row: LabelRow;
}

export interface Match {
  labelled: Labelled[];
  /** Images that no row names. */
  unlabelled: number;
  /** Rows that name no image. */
  unmatched: number;
}

/**
 * Pairs images with rows, by path, by name, or by either without extension. Throws a UserError where a row could mean two images, an
 * image has two labels, or a table of labels alone has another length than there are images.
 */
export function matchLabels(images: readonly ImageFile[], { file, rows }: LabelFile): Match {
  if (rows[0].image === undefined) {
    if (rows.length !== images.length)
      throw new UserError(
        `${file} has ${counted(rows.length, 'label')}, one a line, but there are ${images.length} images: with the images' names beside them, they need not be as many.`,
      );
    return { labelled: images.map((image, i) => ({ ...image, row: rows[i] })), unlabelled: 0, unmatched: 0 };
  }
  const keys: ((path: string) => string)[] = [
    path => path,
    withoutExtension,
    lastPart,
    path => withoutExtension(lastPart(path)),
  ];
  const found = keys.map(key => {
    const map = new Map<string, number | 'several'>();
    images.forEach(({ path }, i) => {
      const name = plain(key(path));
      map.set(name, map.has(name) ? 'several' : i);
    });
    return map;
  });
  const rowOf = new Map<number, LabelRow>();
  let unmatched = 0;
  for (const row of rows) {
    const path = plain(row.image!)
      .replaceAll('\\', '/')
      .replace(/^(\.?\/)+/, '');
    // A name with a dot in it, and no extension, is found whole; one with another folder before it by its last part.
    const at = found[0].get(path) ?? found[1].get(path) ?? found[2].get(lastPart(path)) ?? found[3].get(lastPart(path));
    if (at === 'several')
      throw new UserError(
        `${file} names '${row.image}', which several images are called: write their folders before their names.`,
      );
    if (at === undefined) {
      unmatched++;
      continue;
    }
    const other = rowOf.get(at);
    if (other && other.label !== row.label)
      throw new UserError(
        `${file} gives ${images[at].path} two labels, '${other.label}' and '${row.label}': an image has one class here.`,
      );
    rowOf.set(at, row);
  }
  const labelled = images.flatMap((image, i) => {
    const row = rowOf.get(i);
    return row ? [{ ...image, row }] : [];
  });
  return { labelled, unlabelled: images.length - labelled.length, unmatched };
}
