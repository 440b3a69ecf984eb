import type { KnipConfig } from 'knip';

interface Notebook {
  cells: { cell_type: string; source: string | string[] }[];
}

/** The code of a notebook, whose imports are relative to the checkout. */
const codeOf = (text: string): string =>
  (JSON.parse(text) as Notebook).cells
    .filter(({ cell_type }) => cell_type === 'code')
    .map(({ source }) => [source].flat().join(''))
    .join('\n')
    .replaceAll("'./lib/", "'../lib/");

export default {
  entry: [
    'lib/cli/*.ts',
    'lib/index.ts', // the surface inside a checkout
    'lib/runs/predictor.ts', // by library.cjs
    'lib/demo/page/main.ts', // bundled for a browser
    'lib/jupyter/session/kernel.ts', // by threads.cjs
    'lib/jupyter/display/display.ts', // for whoever writes a notebook
    'experiments/*.ts', // found by name, as are
    'experiments/bench/commands/*.ts',
    'experiments/bench/ours.ts', // a process of its own, as is
    'test/products.ts',
    'test/fuzz/smallBundle.ts',
    'test/isa/subset.ts',
    'test/native/fuzz.ts',
    'lib/jupyter/protocol/wire.ts', // as a thread
    'notebooks/*.ipynb',
    'test/**/*.test.ts',
    'test/*.cjs', // preloaded into processes under test
  ],
  ignoreBinaries: ['mkfifo', 'qemu-aarch64'], // the system's
  project: ['lib/**/*.ts', 'experiments/**/*.ts', 'notebooks/*.ipynb', 'test/**/*.{ts,mts,cjs}'],
  compilers: { ipynb: codeOf },
  ignoreExportsUsedInFile: true,
  exclude: ['duplicates'], // `ops` begins as `stockOps`
  ignoreDependencies: [
    '@expo-google-fonts/inter', // read as files: the font of charts,
    'vega-embed', // what pages embed,
    'node-api-headers', // and the addon's headers
    'jasmine-core', // tfjs-core's own tests
    '@tensorflow/tfjs-node', // loaded by openEngine()
  ],
} satisfies KnipConfig;
