import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from '../../util/files';
import { ROOT } from '../../util/root';

export type Language = 'typescript' | 'javascript';

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

/** Its kernels, that of JavaScript as tslab's `jslab`; `flags` follow KERNEL_ARGV. */
export const KERNELS: Record<Language, { name: string; displayName: string; flags: readonly string[] }> = {
  typescript: { name: KERNEL_NAME, displayName: DISPLAY_NAME, flags: [] },
  javascript: { name: 'edgevit-lab-js', displayName: 'JavaScript (EdgeViT Lab)', flags: ['--js'] },
};

const folder = (jupyter: string, name: string = KERNEL_NAME): string => join(jupyter, 'kernels', name);

/** Writes the kernel's specifications (no Python needed), that of TypeScript and that of JavaScript, and returns the folder of the first. */
export function register(jupyter: string): string {
  for (const [language, { name, displayName, flags }] of Object.entries(KERNELS)) {
    const spec = {
      argv: [...KERNEL_ARGV, ...flags],
      display_name: displayName,
      language,
      interrupt_mode: 'message', // the kernel listens for it on a thread of its own; a signal would not reach a busy cell
      metadata: { debugger: false },
    };
    writeFileAtomic(join(folder(jupyter, name), 'kernel.json'), `${JSON.stringify(spec, null, 2)}\n`);
  }
  return folder(jupyter);
}

export function unregister(jupyter: string): string {
  for (const { name } of Object.values(KERNELS)) rmSync(folder(jupyter, name), { recursive: true, force: true });
  return folder(jupyter);
}
