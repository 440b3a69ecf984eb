import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { delimiter, join } from 'node:path';
import type { Command } from 'commander';
import { ensureEngine } from '../engine/build/install';
import { pythonEnvironment } from '../jupyter/install/python';
import { KERNEL_NAME, PROJECT_JUPYTER, register as registerKernel } from '../jupyter/install/register';
import { writeFileAtomic } from '../util/files';
import { ROOT } from '../util/root';

/** `npm run lab`: JupyterLab with the kernel of this checkout, at notebooks/. */
export function register(program: Command): void {
  program
    .command('lab')
    .description('Start JupyterLab on the loopback; all arguments go to it.')
    .helpOption(false)
    .allowUnknownOption()
    .argument('[arguments...]', 'for JupyterLab')
    .action(start);
}

async function start(args: readonly string[]): Promise<void> {
  await ensureEngine(); // here, where its progress is seen, rather than in some cell
  const python = await pythonEnvironment(join(ROOT, '.venv'), undefined, line => console.log(line));
  registerKernel(PROJECT_JUPYTER);
  configure();
  // The token is the one that Jupyter makes and prints.
  const lab = spawn(python, ['-m', 'jupyterlab', ...args], {
    cwd: ROOT,
    stdio: 'inherit',
    env: {
      ...process.env,
      JUPYTER_PATH: path(PROJECT_JUPYTER, process.env.JUPYTER_PATH),
      JUPYTER_CONFIG_PATH: path(PROJECT_JUPYTER, process.env.JUPYTER_CONFIG_PATH),
    },
  });
  process.on('SIGINT', () => {}); // the terminal sends it to JupyterLab too, which asks before it ends
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => lab.kill(signal));
  const [code] = (await once(lab, 'exit')) as [number | null];
  process.exitCode = code ?? 1;
}

/** By files, not by arguments, which Jupyter refuses to take twice: so all that the user gives goes before. */
function configure(): void {
  const write = (file: string, settings: object): void =>
    writeFileAtomic(join(PROJECT_JUPYTER, file), `${JSON.stringify(settings, null, 2)}\n`);
  write('jupyter_server_config.json', {
    ServerApp: { ip: '127.0.0.1', root_dir: ROOT },
    MultiKernelManager: { default_kernel_name: KERNEL_NAME },
  });
  write('jupyter_lab_config.json', { LabApp: { default_url: '/lab/tree/notebooks' } });
  // A new notebook begins in TypeScript; JupyterLab would ask, with Python as the first answer.
  write('labconfig/default_setting_overrides.json', {
    '@jupyterlab/notebook-extension:tracker': { autoStartDefaultKernel: true },
  });
  write('labconfig/page_config.json', { disabledExtensions: { '@jupyterlab/apputils-extension:announcements': true } }); // it would begin by asking whether it may fetch news
}

function path(first: string, others: string | undefined): string {
  return others ? `${first}${delimiter}${others}` : first;
}
