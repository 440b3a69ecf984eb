import { Command, CommanderError } from 'commander';
import { UserError } from '../lib/errors';

/**
 * Every command of the lab: `tsx experiments/cli.ts COMMAND …`, called by the npm scripts.
 * A command is a module that adds itself to the program; it is loaded only when it runs.
 */
const COMMANDS: Record<string, () => Promise<{ register(program: Command): void }>> = {
};

async function main(argv: string[]): Promise<void> {
  const program = new Command('edgevit').exitOverride().configureOutput({ outputError: () => {} });
  const load = COMMANDS[argv[0] ?? ''];
  if (!load) throw new UserError(`Unknown command '${argv[0] ?? ''}': allowed are ${Object.keys(COMMANDS).join(', ')}.`);
  (await load()).register(program);
  await program.parseAsync(argv, { from: 'user' });
}

main(process.argv.slice(2)).catch((error: unknown) => {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return; // --help
    console.error(error.message.replace(/^error: /, ''));
    process.exitCode = 2;
  } else if (error instanceof UserError) {
    console.error(error.message);
    process.exitCode = 2;
  } else {
    console.error(error);
    process.exitCode = 1;
  }
});
