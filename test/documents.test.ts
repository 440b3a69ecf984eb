import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';
import { ROOT } from '../lib/util/root';

// What documents say is checked against what they speak of.

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const MARKDOWN = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'datasets/README.md', 'experiments/bench/README.md'];

test('TypeScript in Markdown type-checks as a file beside it would', () => {
  const files = new Map<string, string>();
  for (const path of MARKDOWN) {
    const blocks = [...read(path).matchAll(/^```(?:ts|typescript)\n([\s\S]*?)^```/gm)];
    blocks.forEach(([, code], i) => {
      files.set(join(ROOT, path, `../${path.replaceAll('/', '-')}-${i}.ts`), `${code}\nexport {};\n`);
    });
  }
  expect(files.size).toBeGreaterThan(0);
  const { options } = ts.parseJsonConfigFileContent(
    ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile).config,
    ts.sys,
    ROOT,
  );
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = path => files.has(path) || fileExists(path);
  host.readFile = path => files.get(path) ?? readFile(path);
  host.getSourceFile = (path, target, ...rest) =>
    files.has(path) ? ts.createSourceFile(path, files.get(path)!, target) : getSourceFile(path, target, ...rest);
  const program = ts.createProgram(
    [...files.keys()],
    { ...options, incremental: false, tsBuildInfoFile: undefined, noUnusedLocals: false },
    host,
  );
  const problems = [...files.keys()].flatMap(path => {
    const file = program.getSourceFile(path);
    return [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)];
  });
  expect(
    ts.formatDiagnostics(problems, {
      getCanonicalFileName: path => path,
      getCurrentDirectory: () => ROOT,
      getNewLine: () => '\n',
    }),
  ).toBe('');
});

test('commands in Markdown are scripts of package.json', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  const known = [...Object.keys(scripts), 'ci'];
  for (const path of [...MARKDOWN, 'experiments/RESULTS.md'])
    for (const [, name] of read(path).matchAll(/\bnpm run ([a-z][\w:-]*)/g))
      expect(known, `${path}: npm run ${name}`).toContain(name);
});

test('files that Markdown links to are there', () => {
  for (const path of [...MARKDOWN, 'experiments/RESULTS.md']) {
    const folder = join(ROOT, path, '..');
    for (const [, link] of read(path).matchAll(/\]\((?!https?:|#)([^)#\s]+)/g))
      expect(() => readFileSync(join(folder, link)), `${path} links to ${link}`).not.toThrow(/ENOENT/);
  }
});

test('the README is short', () => {
  expect(read('README.md').trimEnd().split('\n').length).toBeLessThanOrEqual(150);
});

/** The bugs of the tutorial model by number, each by a word that both places must use of it. */
const BUGS: Record<string, RegExp> = {
  1: /batch of 2|two (images|pictures)/i,
  2: /norm.*(whole|one)/i,
  3: /scale/i,
  5: /normalisation/i,
  6: /Adam|step/,
};

test("notebook 05 numbers the tutorial model's bugs as article.ts does", () => {
  const listed = new Map(
    [...read('lib/model/baselines/article.ts').matchAll(/^ \* (\d)\. ([\s\S]*?)(?=^ \* \d\. |^ \*\n)/gm)].map(
      ([, number, text]) => [number, text],
    ),
  );
  expect([...listed.keys()]).toEqual(['1', '2', '3', '4', '5', '6']);
  const { cells } = JSON.parse(read('notebooks/05-the-article.ipynb')) as {
    cells: { cell_type: string; source: string[] }[];
  };
  const headings = cells
    .filter(({ cell_type }) => cell_type === 'markdown')
    .flatMap(({ source }) => [...source.join('').matchAll(/^## Bug (\d): (.*)$/gm)]);
  expect(headings.map(([, number]) => number)).toEqual(Object.keys(BUGS));
  for (const [, number, heading] of headings) {
    expect(heading).toMatch(BUGS[number]);
    expect(listed.get(number)).toMatch(BUGS[number]);
  }
});

test('the titles of the charts of notebook 03 are computed', () => {
  const name = readdirSync(join(ROOT, 'notebooks')).find(file => file.startsWith('03-'))!;
  const { cells } = JSON.parse(read(`notebooks/${name}`)) as { cells: { cell_type: string; source: string[] }[] };
  const titles = cells
    .filter(({ cell_type }) => cell_type === 'code')
    .flatMap(({ source }) => [...source.join('').matchAll(/\b(?:figure|panels)\((['"`])(.*)/g)]);
  expect(titles.length).toBeGreaterThan(5);
  for (const [call, quote] of titles) expect(quote, call).toBe('`');
});
