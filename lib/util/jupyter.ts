import { homedir } from 'node:os';
import { join } from 'node:path';

/** The user's own Jupyter data folder, where VS Code and any JupyterLab look: that of jupyter_core's `jupyter_data_dir`. */
export function userJupyter(
  environment: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
  home = homedir(),
): string {
  if (environment.JUPYTER_DATA_DIR) return environment.JUPYTER_DATA_DIR;
  if (platform === 'darwin') return join(home, 'Library', 'Jupyter');
  if (platform === 'win32') return join(environment.APPDATA || join(home, 'AppData', 'Roaming'), 'jupyter');
  return join(environment.XDG_DATA_HOME || join(home, '.local', 'share'), 'jupyter');
}
