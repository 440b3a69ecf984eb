import { openEngine } from '../lib/engine/open';

/** Vitest's set-up of each test file: `tf` has its engine before the file's own code runs. */
await openEngine();
