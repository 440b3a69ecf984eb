import type { Command } from 'commander';
import { DISPLAY_NAME, PROJECT_JUPYTER, register as registerKernel, unregister } from '../jupyter/install/register';
import { userJupyter } from '../util/jupyter';

/** `npm run kernel`: makes the notebook kernel of this checkout known to Jupyter; no Python needed. */
export function register(program: Command): void {
  program
    .command('kernel')
    .description(`Register the notebook kernel '${DISPLAY_NAME}' of this checkout.`)
    .option('--user', 'for all of your Jupyter front ends (VS Code, any JupyterLab) instead of only for `npm run lab`')
    .option('--remove', 'remove it again')
    .action(({ user, remove }: { user?: boolean; remove?: boolean }) => {
      const jupyter = user ? userJupyter() : PROJECT_JUPYTER;
      console.log(
        remove ? `Removed ${unregister(jupyter)}` : `Registered '${DISPLAY_NAME}' in ${registerKernel(jupyter)}`,
      );
    });
}
