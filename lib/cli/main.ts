import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { Failure, UserError } from '../util/errors';
import { noRoom } from '../util/files';
import { ROOT } from '../util/root';

/**
 * `tsx lib/cli/main.ts COMMAND …`, called by the npm scripts. A command is a file of its name in one of these folders, which adds itself to the
 * program; it is loaded only when it runs.
 */
const FOLDERS = [__dirname, join(ROOT, 'experiments/bench/commands')];

interface CommandFile {
  register(program: Command): void | Promise<void>;
}

function commandFiles(): Map<string, string> {
  const files = FOLDERS.filter(folder => existsSync(folder)).flatMap(folder =>
    readdirSync(folder).map(file => join(folder, file)),
  );
  return new Map(
    files
      .filter(file => file.endsWith('.ts') && file !== __filename)
      .map(file => [basename(file, '.ts'), file] as const)
      .sort(),
  );
}

async function main(argv: string[]): Promise<void> {
  const program = new Command('edgevit')
    .exitOverride()
    .showSuggestionAfterError(false)
    .configureOutput({ outputError: () => {} });
  const commands = commandFiles();
  const file = commands.get(argv[0] ?? '');
  if (file === undefined)
    throw new UserError(`Unknown command '${argv[0] ?? ''}': allowed are ${[...commands.keys()].join(', ')}.`);
  await ((await import(file)) as CommandFile).register(program);
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
