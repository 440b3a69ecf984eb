import { ensureEngine } from '../lib/engine/build/install';

/** Vitest's global set-up: `npm ci && npm test` installs the engine first, so that every test file finds it. */
export default async function setup(): Promise<void> {
  await ensureEngine();
}
