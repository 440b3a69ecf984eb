import { ensureEngine } from '../lib/engine/build/install';

/**
 * Vitest's global set-up: `npm ci && npm test` installs the engine first, so that every test file finds it. Suites that need TensorFlow are
 * skipped without it, which is no success: with REQUIRE_ENGINE=1, as on CI, the run fails before it begins.
 */
export default async function setup(): Promise<void> {
  const { kind, description } = await ensureEngine();
  if (kind === 'tensorflow') return;
  if (process.env.REQUIRE_ENGINE === '1')
    throw new Error(
      `The suites that need TensorFlow would be skipped: the engine is ${description}. See npm run doctor.`,
    );
  console.warn(
    `The suites that need TensorFlow are skipped: the engine is ${description}. REQUIRE_ENGINE=1 forbids that.`,
  );
}
