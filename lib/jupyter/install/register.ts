import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from '../../util/files';
import { ROOT } from '../../util/root';

export const KERNEL_NAME = 'edgevit-lab';
export const DISPLAY_NAME = 'TypeScript (EdgeViT Lab)';

/** What JUPYTER_PATH must name for Jupyter to find the kernel of this checkout. */
export const PROJECT_JUPYTER = join(ROOT, '.jupyter');

/** The command that starts the kernel. V8 can end a cell that does not give way; with that flag Node survives where it ended a callback. */
export const KERNEL_ARGV = [
  process.execPath,
  '--no-force-async-hooks-checks',
  join(__dirname, '../session/launcher.cjs'),
  '{connection_file}',
];

const folder = (jupyter: string): string => join(jupyter, 'kernels', KERNEL_NAME);

/** Writes the kernel's specification (no Python needed) and returns its folder. */
export function register(jupyter: string): string {
  const spec = {
    argv: KERNEL_ARGV,
    display_name: DISPLAY_NAME,
    language: 'typescript',
    interrupt_mode: 'message', // the kernel listens for it on a thread of its own; a signal would not reach a busy cell
    metadata: { debugger: false },
  };
  writeFileAtomic(join(folder(jupyter), 'kernel.json'), `${JSON.stringify(spec, null, 2)}\n`);
  return folder(jupyter);
}

export function unregister(jupyter: string): string {
  rmSync(folder(jupyter), { recursive: true, force: true });
  return folder(jupyter);
}
