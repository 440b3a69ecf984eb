import { ensureEngine } from '../lib/engine/build/install';

/**
 * Vitest's global set-up: `npm ci && npm test` installs the engine first, so that every test file finds it. Suites that need TensorFlow are
 * skipped without it, which is no success: with EDGEVIT_TEST_ENGINE=tensorflow, as on CI, the run fails before it begins.
 */
export default async function setup(): Promise<void> {
  const { kind, description } = await ensureEngine();
  if (kind === 'tensorflow') return;
  if (process.env.EDGEVIT_TEST_ENGINE === 'tensorflow')
    throw new Error(
      `The suites that need TensorFlow would be skipped: the engine is ${description}. See npm run doctor.`,
    );
  console.warn(
    `The suites that need TensorFlow are skipped: the engine is ${description}. EDGEVIT_TEST_ENGINE=tensorflow forbids that.`,
  );
}
