import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { NATIVE_OPS, type NativeOp } from '../nativeOps';

/** The table of the lab's ops as C++ includes it (native/kernels.cc). */
export const OPS_TABLE = join(__dirname, '../native/ops.inc');

/** Its text: name, inputs, attributes and outputs of each op. */
export function opsTable(): string {
  const list = (texts: readonly string[]): string => `{${texts.map(text => JSON.stringify(text)).join(', ')}}`;
  const rows = Object.entries<unknown>(NATIVE_OPS).map(([name, op]) => {
    const { inputs, attrs, outputs } = op as NativeOp;
    return `{"${name}", ${list(inputs)}, ${list(attrs)}, ${list(outputs)}},\n`;
  });
  return `// Written by \`npm run ops\` from lib/engine/nativeOps.ts; a test compares the two.\n${rows.join('')}`;
}

if (require.main === module) writeFileSync(OPS_TABLE, opsTable());
