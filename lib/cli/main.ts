import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { Failure, UserError } from '../util/errors';
import { fileObstacle, noRoom } from '../util/files';
import { ROOT } from '../util/root';
import { allowedNames } from '../util/suggest';
import { cleanConsole } from '../util/text';

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

async function main(given: string[]): Promise<void> {
  const argv = given.map(atHome);
  standWhereTheUserStands();
  const program = new Command('edgevit')
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({ outputError: () => {} });
  const commands = commandFiles();
  if (argv[0] === undefined || ['help', '--help', '-h'].includes(argv[0])) {
    console.log(
      `npm run COMMAND -- OPTIONS, where COMMAND is one of ${[...commands.keys()].join(', ')}; npm run COMMAND -- help tells the options.`,
    );
    return;
  }
  const file = commands.get(argv[0]);
  if (file === undefined)
    throw new UserError(`Unknown command '${argv[0]}': ${allowedNames(argv[0], [...commands.keys()])}`);
  await ((await import(file)) as CommandFile).register(program);
  refuseSwallowedOptions(program);
  if (argv[1] === 'help' && argv.length === 2) argv[1] = '--help';
  await program.parseAsync(argv, { from: 'user' });
}

/** npm runs scripts in the checkout: relative paths are meant from where the user called it. */
function standWhereTheUserStands(): void {
  const { INIT_CWD, npm_lifecycle_event } = process.env;
  if (INIT_CWD && npm_lifecycle_event && process.cwd() === ROOT && existsSync(INIT_CWD)) process.chdir(INIT_CWD);
}

/** `--out=~/x` and `folder:~/x`, which a shell leaves as they are. */
function atHome(argument: string): string {
  return argument.replace(/(^|=|:)~(?=\/|$)/g, (_, before: string) => before + homedir());
}

/**
 * `npm run train --epochs=1` gives the option to npm, which keeps it as an environment variable and starts a training without it. Throws
 * UserError where one of the command's options is found there.
 */
function refuseSwallowedOptions(program: Command, environment = process.env): void {
  const [command] = program.commands;
  if (!environment.npm_lifecycle_event || !command) return;
  const swallowed = command.options
    .map(({ long }) => long?.slice(2) ?? '')
    .filter(
      name => !OPTIONS_OF_NPM.includes(name) && environment[`npm_config_${name.replaceAll('-', '_')}`] !== undefined,
    );
  if (swallowed.length > 0)
    throw new UserError(
      `npm took --${swallowed.join(', --')} for an option of its own: put -- before the options, as in \`npm run ${command.name()} -- --${swallowed[0]}…\`.`,
    );
}

/** Options that people set in their .npmrc, or npx sets for what it starts, so that they tell nothing about this command line. */
const OPTIONS_OF_NPM = ['cache', 'force', 'json', 'key', 'save', 'yes'];

// A reader that goes away, as `| head` does, or a terminal that was closed is no reason to stop: a training continues in its run folder.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
  });

if (process.argv[2] !== 'kernel') cleanConsole(); // what cells print is theirs

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
    const said =
      error instanceof Failure
        ? error.message
        : full !== undefined
          ? `${(error as Error).message}: ${full}.`
          : fileObstacle(error);
    console.error(said ?? error);
    process.exitCode = 1;
  }
});
