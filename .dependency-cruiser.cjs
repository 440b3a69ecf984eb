/** The rooms of lib, from the ground up: each imports only those before it. */
const ROOMS = [
  'util',
  'tensor',
  'model',
  'engine',
  'weights',
  'data',
  'train',
  'measure',
  'export',
  'runs',
  'charts',
  'report',
  'browser',
  'demo',
  'jupyter',
  'cli',
];

const upwards = ROOMS.slice(0, -1).map((room, i) => ({
  name: `${room}-imports-downwards`,
  comment: `lib/${room} imports ${i === 0 ? 'no other room' : `only ${ROOMS.slice(0, i).join(', ')}`}.`,
  severity: 'error',
  from: { path: `^lib/${room}/` },
  to: { path: `^lib/(${ROOMS.slice(i + 1).join('|')})/` },
}));

/** The rule of the house, checked by test/boundaries.test.ts and `npx depcruise lib experiments`. */
module.exports = {
  forbidden: [
    ...upwards,
    {
      name: 'known-rooms',
      comment: `A folder of lib is one of ${ROOMS.join(', ')}: a new one gets its place in ROOMS.`,
      severity: 'error',
      from: {},
      to: { path: '^lib/[^/]+/', pathNot: `^lib/(${ROOMS.join('|')})/` },
    },
    {
      name: 'lib-without-experiments',
      comment: 'lib asks no questions: experiments and benchmarks are found in their folders.',
      severity: 'error',
      from: { path: '^lib/' },
      to: { path: '^(experiments|test|notebooks)/' },
    },
    {
      name: 'browser-rooms-without-node',
      comment: 'lib/tensor, lib/model, lib/browser and lib/demo/page run in a browser.',
      severity: 'error',
      from: { path: '^lib/(tensor|model|browser|demo/page)/' },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'no-cycles',
      comment: 'Of two files that import each other neither can be read first.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    exoticRequireStrings: [],
  },
};
