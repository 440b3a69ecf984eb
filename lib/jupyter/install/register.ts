import { rmSync } from 'node:fs';
import { homedir } from 'node:os';
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

/** The user's own Jupyter data folder: where VS Code and any JupyterLab look. */
export function userJupyter(
  environment: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
  home = homedir(),
): string {
  if (environment.JUPYTER_DATA_DIR) return environment.JUPYTER_DATA_DIR;
  if (platform === 'darwin') return join(home, 'Library', 'Jupyter');
  if (platform === 'win32') return join(environment.APPDATA ?? join(home, 'AppData', 'Roaming'), 'jupyter');
  return join(environment.XDG_DATA_HOME ?? join(home, '.local', 'share'), 'jupyter');
}

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
