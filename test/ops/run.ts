import { createRequire } from 'node:module';
import { runInThisContext } from 'node:vm';
import { build } from 'esbuild';
import seedrandom from 'seedrandom';
import { openEngine } from '../../lib/engine/open';
import { compileKernels } from './compiledKernels';

/** What became of tfjs-core's tests, in their order. */
export interface Report {
  tests: { name: string; passed: boolean; failure?: string; compiledCalls: number }[];
  routing?: { calls: number; functions: number; kernels: string[]; refused: [kernel: string, reason: string][] };
}

interface Jasmine {
  DEFAULT_TIMEOUT_INTERVAL: number;
  getEnv(): {
    configure(options: { random: boolean }): void;
    addReporter(reporter: {
      specStarted(): void;
      specDone(spec: { fullName: string; status: string; failedExpectations: { message: string }[] }): void;
    }): void;
    execute(): Promise<unknown>;
  };
}

const SUITE = `
  import { setTestEnvs } from '@tensorflow/tfjs-core/dist/jasmine_util';
  setTestEnvs([{ name: 'tensorflow', backendName: 'tensorflow', flags: {}, isDataSync: true }]);
  require('@tensorflow/tfjs-core/dist/tests'); // an import would come before the line above
`;

async function loadTests(): Promise<void> {
  const { outputFiles } = await build({
    stdin: { contents: SUITE, resolveDir: __dirname },
    bundle: true,
    write: false,
    platform: 'node',
    format: 'cjs',
    ignoreAnnotations: true, // the package calls its tests free of side effects
    external: ['jasmine-core'], // one Jasmine for the tests and for this file
    logLevel: 'error',
  });
  runInThisContext(`(function (require, module) {${outputFiles[0]!.text}\n})`, { filename: 'tfjs-core-tests.js' })(
    createRequire(__filename),
    { exports: {} },
  );
}

/** Runs tfjs-core's own tests on the lab's engine, and sends the report to the parent process. */
async function run(mode: string | undefined): Promise<void> {
  await openEngine();
  const routing = mode === 'compiled' ? compileKernels() : undefined;
  const jasmineCore = createRequire(__filename)('jasmine-core') as { boot(core: unknown): Jasmine };
  const jasmine = jasmineCore.boot(jasmineCore);
  jasmine.DEFAULT_TIMEOUT_INTERVAL = 60_000; // the machine may be busy
  const environment = jasmine.getEnv();
  await loadTests();
  Math.random = seedrandom('tfjs-core'); // some tests draw numbers without a seed: the same ones in both runs
  const report: Report = { tests: [] };
  let before = 0;
  environment.configure({ random: false });
  environment.addReporter({
    specStarted() {
      before = routing?.calls ?? 0;
    },
    specDone({ fullName, status, failedExpectations }) {
      if (status === 'pending') return; // marked by tfjs as not to run
      report.tests.push({
        name: fullName,
        passed: status === 'passed',
        failure: failedExpectations[0]?.message,
        compiledCalls: (routing?.calls ?? 0) - before,
      });
    },
  });
  await environment.execute();
  if (routing) report.routing = { ...routing, kernels: [...routing.kernels], refused: [...routing.refused] };
  process.send!(report, () => process.exit());
}

void run(process.argv[2]);
