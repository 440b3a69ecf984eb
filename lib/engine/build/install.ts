import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../../util/errors';
import { writeFileAtomic } from '../../util/files';
import { ROOT } from '../../util/root';
import { builtAddon, findFeatures, installAddon, probe } from './addon';
import { chooseSet, type InstructionSet, machineSets, processorFeatures, supportedSets } from './isa';
import { ensurePackages, havePackages } from './packages';
import { markAddonUsed, markUsed } from './prune';
import { isIntact, isUntouched } from './sums';
import { asObstacle, cacheFolder, Obstacle } from './system';
import { installLibrary, isComplete, libraryFolder, machineWheel, requireWheel, TENSORFLOW } from './wheel';

/*
 * The ways to an engine, best first:
 *   1. TensorFlow's library out of its Python wheel, and an addon that we build on it for this processor;
 *   2. an addon that was built before: from the same sources for fewer instructions, or from this checkout's earlier sources;
 *   3. tfjs's pure-JavaScript backend, which is part of the npm packages.
 * tfjs-node's own installer is none of them: it fetches a library that nothing vouches for, from where an environment variable says.
 */

export interface Engine {
  kind: 'tensorflow' | 'earlier addon' | 'js';
  /** For people: what it is and why it was chosen. */
  description: string;
  /** The addon's file, which is loaded from where it was built. */
  addon?: string;
}

type Report = (line: string) => void;

export interface EnsureOptions {
  /** Try the better ways again, even if they failed before with the same sources, and check the files in full. */
  retry?: boolean;
  /** Where each line goes: stderr, so that a command's own output stays clean. */
  report?: Report;
  /** Name the engine also when it is the best one (default: true). */
  announce?: boolean;
}

/**
 * Makes sure that there is an engine, sets it up if not, and says in one line which one it is and why.
 * Loads nothing: `openEngine` does. Takes milliseconds when all is in place. Throws a UserError for an `EDGEVIT_ISA` that this
 * processor lacks.
 */
export async function ensureEngine(options: EnsureOptions = {}): Promise<Engine> {
  const { report = line => console.error(line), announce = true } = options;
  await ensurePackages(report).catch(error => {
    throw new Failure(asObstacle(error).message);
  });
  const known = JS_ASKED ?? currentEngine();
  const settled = known && (known === JS_ASKED || !options.retry || (known.kind === 'tensorflow' && (await isSound())));
  const engine = settled ? known : await install(report, options.retry ?? false);
  if (engine !== JS_ASKED) remember(engine);
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

const tensorflow = (addon: string, { label }: InstructionSet): Engine => ({
  kind: 'tensorflow',
  description: `TensorFlow ${TENSORFLOW} (native addon for ${label})`,
  addon,
});

/** The set that this machine would use; undefined while what it has is not known, or is nothing that TensorFlow runs on. */
function wantedSet(cache: string): InstructionSet | undefined {
  const features = processorFeatures(cache);
  return features && chooseSet(features);
}

/** The engine that was set up for the sources as they are now; undefined when that has yet to be done. Throws a UserError as `ensureEngine` does. */
export function currentEngine(): Engine | undefined {
  if (!havePackages()) return undefined;
  const cache = cacheFolder();
  const set = wantedSet(cache);
  if (set && machineWheel && isComplete(libraryFolder(cache), machineWheel)) {
    const addon = builtAddon(cache, set);
    if (isUntouched(addon)) return tensorflow(addon, set);
  }
  const note = readNote(cache);
  const usable =
    note && note.key === noteKey(cache, set) && (note.engine.addon === undefined || isUntouched(note.engine.addon));
  return usable ? note.engine : undefined;
}

/** Every file of the engine against the sums that were recorded when it was set up; one without a record is not vouched for. */
export async function isSound(): Promise<boolean> {
  const { addon } = currentEngine() ?? {};
  if (!addon || !machineWheel) return false;
  const files = [addon, ...Object.keys(machineWheel.libraries).map(member => libraryFile(member))];
  for (const file of files) if (!(await isIntact(file))) return false;
  return true;
}

const libraryFile = (member: string): string =>
  join(libraryFolder(cacheFolder()), member.slice(member.lastIndexOf('/') + 1));

async function install(report: Report, full: boolean): Promise<Engine> {
  const reasons: string[] = [];
  for (const way of [fromWheel, keepEarlier]) {
    try {
      const engine = await way(report, reasons[0] ?? '', full);
      if (engine) return engine;
    } catch (error) {
      const { message } = asObstacle(error);
      reasons.push(message);
      report(message);
    }
  }
  return { kind: 'js', description: `pure JavaScript, because TensorFlow could not be set up. ${reasons[0]}` };
}

async function fromWheel(report: Report, _reason: string, full: boolean): Promise<Engine> {
  const cache = cacheFolder();
  const wheel = requireWheel();
  await installLibrary(cache, wheel, report, full);
  const set = chooseSet(await findFeatures(cache));
  if (!set) throw new Obstacle('This processor lacks AVX, which TensorFlow is compiled for: use a newer machine.');
  return tensorflow(await installAddon(cache, wheel, set, report), set);
}

/** Builds the addon for every instruction set of this architecture, for folders and images that other machines use too. Throws a Failure. */
export async function installAll(report: Report): Promise<void> {
  try {
    await ensurePackages(report);
    const cache = cacheFolder();
    const wheel = requireWheel();
    await installLibrary(cache, wheel, report, true);
    const supported = supportedSets(await findFeatures(cache));
    for (const set of machineSets) {
      const addon = await installAddon(cache, wheel, set, report);
      report(`${set.isa}: ${addon}${supported.includes(set) ? '' : ', built but not tried: this processor lacks it'}`);
    }
  } catch (error) {
    throw new Failure(asObstacle(error).message);
  }
}

async function keepEarlier(_report: Report, reason: string): Promise<Engine | undefined> {
  const cache = cacheFolder();
  const features = processorFeatures(cache);
  if (!features) return undefined;
  const wanted = chooseSet(features);
  for (const set of process.env.EDGEVIT_ISA ? [] : supportedSets(features).reverse()) {
    const addon = builtAddon(cache, set);
    if (set === wanted || !existsSync(addon) || (await probe(cache, addon)).obstacle) continue;
    return {
      kind: 'earlier addon',
      description: `TensorFlow ${TENSORFLOW} (native addon for ${set.label}, because one for ${wanted?.label} could not be made. ${reason})`,
      addon,
    };
  }
  const earlier = readNote(cache)?.earlier;
  if (!earlier || !existsSync(earlier)) return undefined;
  const { version, obstacle } = await probe(cache, earlier);
  if (obstacle) return undefined;
  return {
    kind: 'earlier addon',
    description: `TensorFlow ${version} (the addon that was in use, kept because a new one could not be made. ${reason})`,
    addon: earlier,
  };
}

/** What this checkout uses on processors such as this one, so that not every command tries the failing ways again. */
interface Note {
  /** The sources and the instruction set that it was found for. */
  key: string;
  engine: Engine;
  /** The addon in use, or the last one that was. */
  earlier?: string;
}

// In the cache rather than in the checkout: that may be another user's, or another machine's at the same time.
function noteFile(cache: string, set: InstructionSet | undefined): string {
  const checkout = createHash('sha256').update(ROOT).digest('hex').slice(0, 16);
  return join(cache, `checkout-${checkout}-${set?.isa ?? 'unknown'}.json`);
}

function noteKey(cache: string, set: InstructionSet | undefined): string {
  return set ? builtAddon(cache, set) : machineSets.map(each => builtAddon(cache, each)).join();
}

function remember(engine: Engine): void {
  const cache = cacheFolder();
  const set = wantedSet(cache);
  const before = readNote(cache);
  const earlier = engine.addon ?? before?.earlier;
  const note: Note = { key: noteKey(cache, set), engine, ...(earlier && { earlier }) };
  if (earlier) markAddonUsed(earlier);
  if (JSON.stringify(note) === JSON.stringify(before)) {
    markUsed(noteFile(cache, set));
    return;
  }
  try {
    writeFileAtomic(noteFile(cache, set), JSON.stringify(note));
  } catch {
    // Without the note the next command tries again, which is slow but right.
  }
}

function readNote(cache: string): Note | undefined {
  const file = noteFile(cache, wantedSet(cache));
  try {
    return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Note) : undefined;
  } catch {
    return undefined;
  }
}
