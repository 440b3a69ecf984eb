import { Command, CommanderError } from 'commander';
import { Failure, UserError } from '../util/errors';
import { noRoom } from '../util/files';

/**
 * Every command of the lab: `tsx lib/cli/main.ts COMMAND …`, called by the npm scripts.
 * A command is a module that adds itself to the program; it is loaded only when it runs.
 */
const COMMANDS: Record<string, () => Promise<{ register(program: Command): void }>> = {
  parity: () => import('./parity'),
  summary: () => import('./summary'),
  start: () => import('./start'),
  train: () => import('./train'),
  runs: () => import('./runs'),
  bundle: () => import('./bundle'),
  replay: () => import('./replay'),
  data: () => import('./data'),
  bench: () => import('./bench'),
  profile: () => import('./profile'),
  latency: () => import('./latency'),
  report: () => import('./report'),
  experiment: () => import('./experiment'),
  experiments: () => import('./experiments'),
  trial: () => import('./trial'),
  notebooks: () => import('./notebooks'),
  kernel: () => import('./kernel'),
  lab: () => import('./lab'),
  setup: () => import('./setup'),
  doctor: () => import('./doctor'),
};

async function main(argv: string[]): Promise<void> {
  const program = new Command('edgevit')
    .exitOverride()
    .showSuggestionAfterError(false)
    .configureOutput({ outputError: () => {} });
  const load = COMMANDS[argv[0] ?? ''];
  if (!load)
    throw new UserError(`Unknown command '${argv[0] ?? ''}': allowed are ${Object.keys(COMMANDS).join(', ')}.`);
  (await load()).register(program);
  await program.parseAsync(argv, { from: 'user' });
}

// A reader that goes away, as `| head` does, is no error; nor is a terminal that was closed, after which training still writes its checkpoint.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit();
  if (error.code !== 'EIO') throw error;
});

main(process.argv.slice(2)).catch((error: unknown) => {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return; // --help
    console.error(error.message.replace(/^error: /, ''));
    process.exitCode = 2;
  } else if (error instanceof UserError) {
    console.error(error.message);
    process.exitCode = 2;
  } else {
    const full = noRoom(error);
    console.error(
      error instanceof Failure ? error.message : full === undefined ? error : `${(error as Error).message}: ${full}.`,
    );
    process.exitCode = 1;
  }
});
