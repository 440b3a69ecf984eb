import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Vitest's global set-up: one folder for all that these tests write, which both files take their images and what to compare with from. */
export default function setup(): () => void {
  const place = mkdtempSync(join(tmpdir(), 'cluster-'));
  process.env.CLUSTER_PLACE = place; // for the processes of the test files
  return () => rmSync(place, { recursive: true, force: true, maxRetries: 10 });
}
