import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { delimiter, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { writeFileAtomic } from '../lib/files';
import { pythonEnvironment } from '../lib/kernel/python';
import { KERNEL_NAME, PROJECT_JUPYTER, register as registerKernel } from '../lib/kernel/register';

const ROOT = resolve(__dirname, '..');

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
  const python = await pythonEnvironment(join(ROOT, '.venv'), undefined, line => console.log(line));
  registerKernel(PROJECT_JUPYTER);
  // JupyterLab would begin by asking whether it may fetch news.
  writeFileAtomic(join(PROJECT_JUPYTER, 'labconfig', 'page_config.json'), `${JSON.stringify({ disabledExtensions: { '@jupyterlab/apputils-extension:announcements': true } })}\n`);
  // The token is the one that Jupyter makes and prints.
  const own = ['--ServerApp.ip=127.0.0.1', `--ServerApp.root_dir=${ROOT}`, '--LabApp.default_url=/lab/tree/notebooks', `--MultiKernelManager.default_kernel_name=${KERNEL_NAME}`];
  const lab = spawn(python, ['-m', 'jupyterlab', ...own, ...args], {
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

function path(first: string, others: string | undefined): string {
  return others ? `${first}${delimiter}${others}` : first;
}
