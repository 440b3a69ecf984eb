import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { expect, test } from 'vitest';
import { ROOT } from '../lib/util/root';

/** What the field calls otherwise, and how: CONTRIBUTING.md has the list. Identifiers, options and JSON keys keep their names. */
const WORDS: [RegExp, string][] = [
  [/\bpictures?\b/i, 'image'],
  [/\b(go|goes|going|gone|went) on (with|from|where)\b/i, 'resume, continue'],
  [/\b(in|tak(e|es|ing)|took) turns\b/i, 'interleaved'],
  [/\bdrawn (flowers|species)|flowers? (is|are) drawn\b/i, 'synthetic'],
  [/\bclear of noise|within noise\b/i, 'the CI excludes 0'],
  [/\bproducts? of matrices|matrix products?\b/i, 'matmul, GEMM'],
  [/\bfeed-forwards?\b/i, 'FFN'],
  [/\bshares? of\b/i, 'fraction of'],
  [/\bwhole numbers?\b/i, 'integer'],
  [/\bbroken off\b/i, 'interrupted'],
];

function expectWords(where: string, text: string): void {
  for (const [not, but] of WORDS) expect(not.exec(text)?.[0], `${where}: write ${but}`).toBeUndefined();
}

/** Without code, whose identifiers are what they are. */
const prose = (markdown: string): string => markdown.replace(/```[\s\S]*?```|`[^`\n]*`/g, '');

const markdown = (folder: string): string[] =>
  readdirSync(join(ROOT, folder), { withFileTypes: true })
    .filter(entry => entry.isFile() && entry.name.endsWith('.md'))
    .map(({ name }) => join(folder, name));

test.each(['', 'datasets', 'experiments', 'experiments/bench'].flatMap(markdown))(
  "%s is in the field's words",
  path => {
    const text = readFileSync(join(ROOT, path), 'utf8');
    expectWords(path, prose(text.replace(/^## Words$[\s\S]*?(?=^## )/m, ''))); // the list itself
  },
);

test.each(readdirSync(join(ROOT, 'notebooks')).filter(name => name.endsWith('.ipynb')))(
  "notebook %s is in the field's words",
  name => {
    const { cells } = JSON.parse(readFileSync(join(ROOT, 'notebooks', name), 'utf8')) as {
      cells: { cell_type: string; source: string[]; outputs?: { data?: Record<string, string | string[]> }[] }[];
    };
    for (const { cell_type, source, outputs = [] } of cells) {
      const drawings = outputs.flatMap(({ data }) => data?.['image/svg+xml'] ?? []).join('');
      const labels = [...drawings.matchAll(/>([^<>]+)<\/text>/g)].map(([, label]) => label);
      expectWords(`a chart of ${name}`, labels.join('\n'));
      const text = source.join('');
      const comments = [...text.matchAll(/\/\/ (.*)$|\/\*\*?([\s\S]*?)\*\//gm)].map(([comment]) => comment);
      expectWords(name, cell_type === 'markdown' ? prose(text) : comments.join('\n'));
    }
  },
);

const COMMANDS = ['lib/cli', 'experiments/bench/commands'].flatMap(folder =>
  readdirSync(join(ROOT, folder))
    .filter(name => name.endsWith('.ts') && name !== 'main.ts')
    .map(name => join(folder, name)),
);

test.each(COMMANDS)("--help of %s is in the field's words", async path => {
  const program = new Command();
  const { register } = (await import(join(ROOT, path))) as { register(program: Command): void | Promise<void> };
  await register(program);
  for (const command of program.commands) expectWords(path, command.helpInformation());
});
