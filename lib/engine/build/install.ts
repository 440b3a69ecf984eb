import { existsSync, readFileSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { writeFileAtomic } from '../../util/files';
import { execute } from '../../util/processes';
import { ADDON, builtAddon, installAddon, isInPlace, probe, TFJS_NODE } from './addon';
import { asObstacle, cacheFolder, Obstacle } from './system';
import { installLibrary, isComplete, libraryFolder, machineWheel, requireWheel, TENSORFLOW } from './wheel';

/*
 * The ways to an engine, best first:
 *   1. TensorFlow's library out of its Python wheel, and an addon that we build on it;
 *   2. the addon that was in place before, when the sources changed and the new one cannot be built;
 *   3. tfjs-node's own installer, which downloads a prebuilt addon and TensorFlow 2.9.1 from one storage bucket;
 *   4. tfjs's pure-JavaScript backend, which is part of the npm packages.
 */

export interface Engine {
  kind: 'tensorflow' | 'earlier addon' | 'tfjs-node' | 'js';
  /** For people: what it is and why it was chosen. */
  description: string;
}

type Report = (line: string) => void;

export interface EnsureOptions {
  /** Try the better ways again, even if they failed before with the same sources. */
  retry?: boolean;
  /** Where each line goes: stderr, so that a command's own output stays clean. */
  report?: Report;
  /** Name the engine also when it is the best one (default: true). */
  announce?: boolean;
}

/**
 * Makes sure that there is an engine, sets it up if not, and says in one line which one it is and why.
 * Loads nothing: `openEngine` does. Takes milliseconds when all is in place.
 */
export async function ensureEngine(options: EnsureOptions = {}): Promise<Engine> {
  const { report = line => console.error(line), announce = true } = options;
  const known = JS_ASKED ?? currentEngine();
  const settled = known && (known === JS_ASKED || known.kind === 'tensorflow' || !options.retry);
  const engine = settled ? known : await install(report);
  if (engine.kind === 'js' && engine !== JS_ASKED) report(SLOW);
  if (announce || engine.kind !== 'tensorflow') report(`engine: ${engine.description}`);
  return engine;
}

const SLOW = `
  ************************************************************************************
  * No TensorFlow: everything runs in pure JavaScript, SEVERAL HUNDRED TIMES SLOWER. *
  * What trains in minutes takes days. Mend what is named here and set up again.     *
  ************************************************************************************
`;

/** Set when the user asked for the pure-JavaScript engine. */
export const JS_ASKED: Engine | undefined =
  process.env.EDGEVIT_ENGINE === 'js'
    ? { kind: 'js', description: 'pure JavaScript, as EDGEVIT_ENGINE=js asks' }
    : undefined;

const TENSORFLOW_ENGINE: Engine = {
  kind: 'tensorflow',
  description: `TensorFlow ${TENSORFLOW} (native addon in place)`,
};

/** The engine that was set up for the sources as they are now; undefined when that has yet to be done. */
export function currentEngine(): Engine | undefined {
  const cache = cacheFolder();
  const addon = builtAddon(cache);
  return machineWheel && isComplete(libraryFolder(cache), machineWheel) && isInPlace(addon)
    ? TENSORFLOW_ENGINE
    : readNote(addon);
}

async function install(report: Report): Promise<Engine> {
  const reasons: string[] = [];
  for (const way of [fromWheel, keepEarlier, fromInstaller]) {
    try {
      const engine = await way(report, reasons[0]);
      if (!engine) continue;
      if (engine.kind !== 'tensorflow') writeNote(engine);
      return engine;
    } catch (error) {
      const { message } = asObstacle(error);
      reasons.push(message);
      report(message);
    }
  }
  rmSync(ADDON, { force: true }); // one that does not load
  const engine: Engine = {
    kind: 'js',
    description: `pure JavaScript, because TensorFlow could not be set up. ${reasons[0]}`,
  };
  writeNote(engine);
  return engine;
}

async function fromWheel(report: Report): Promise<Engine> {
  const cache = cacheFolder();
  const wheel = requireWheel();
  await installLibrary(cache, wheel, report);
  await installAddon(cache, wheel, report);
  return TENSORFLOW_ENGINE;
}

async function keepEarlier(_report: Report, reason: string): Promise<Engine | undefined> {
  if (!existsSync(ADDON)) return undefined;
  const { version, obstacle } = await probe(ADDON);
  if (obstacle) return undefined;
  return {
    kind: 'earlier addon',
    description: `TensorFlow ${version} (the addon that was in place, kept because a new one could not be made. ${reason})`,
  };
}

async function fromInstaller(report: Report, reason: string): Promise<Engine> {
  report("Trying tfjs-node's own installer instead.");
  // It calls node-pre-gyp by name, as npm's install scripts may.
  const path = [join(TFJS_NODE, '../../.bin'), process.env.PATH].join(delimiter);
  const { code, output } = await execute(process.execPath, ['scripts/install.js'], {
    cwd: TFJS_NODE,
    env: { ...process.env, PATH: path },
  });
  if (code !== 0 || !existsSync(ADDON)) {
    const why = /^\w*Error: (.+)$/m.exec(output)?.[1] ?? `exit status ${code}`;
    throw new Obstacle(`tfjs-node's own installer failed too (${why}): it needs storage.googleapis.com.`);
  }
  const { version, obstacle } = await probe(ADDON);
  if (obstacle) throw obstacle;
  return {
    kind: 'tfjs-node',
    description: `TensorFlow ${version} (tfjs-node's own installer, because of this: ${reason})`,
  };
}

// What was chosen instead of TensorFlow's wheel is noted, so that not every command tries the failing ways again.
const NOTE = join(TFJS_NODE, '../../.cache/edgevit-engine.json');

function writeNote(engine: Engine): void {
  try {
    writeFileAtomic(NOTE, JSON.stringify({ addon: builtAddon(cacheFolder()), engine }));
  } catch {
    // Without the note the next command tries again, which is slow but right.
  }
}

function readNote(addon: string): Engine | undefined {
  if (!existsSync(NOTE)) return undefined;
  const note = JSON.parse(readFileSync(NOTE, 'utf8')) as { addon: string; engine: Engine };
  const usable = note.addon === addon && (note.engine.kind === 'js') !== existsSync(ADDON);
  return usable ? note.engine : undefined;
}
