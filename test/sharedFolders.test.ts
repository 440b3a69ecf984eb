import {
  chmodSync,
  existsSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ensureFolder, fileObstacle, isTemporary, writeFileAtomic } from '../lib/util/files';
import { scratchFolder } from '../lib/util/folders';
import { locked } from '../lib/util/lock';
import { isGone, thisProcess } from '../lib/util/owner';
import { isGoneFrom, thisPlace } from '../lib/util/processes';

const folder = mkdtempSync(join(tmpdir(), 'shared-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** No process has it: the largest that Linux gives is 2²². */
const DEAD = 2 ** 22 + 1;
const here = thisPlace();

describe('a folder that hosts and containers have in common', () => {
  test('a process is known to be gone here alone, or from before a reboot', () => {
    expect(isGoneFrom(here, process.pid)).toBe(false);
    expect(isGoneFrom(here, DEAD)).toBe(true);
    expect(isGoneFrom({ ...here, boot: 'another' }, process.pid)).toBe(true);
    expect(isGoneFrom({ ...here, namespace: 'another' }, DEAD)).toBe(false);
    expect(isGoneFrom({ ...here, namespace: 'another', boot: 'another' }, DEAD)).toBe(false); // one image, one name, two hosts
    expect(isGoneFrom({ ...here, host: 'another', boot: 'another' }, DEAD)).toBe(false);
  });

  test('a run of another container is not taken over', () => {
    const owner = { ...thisProcess(), pid: DEAD };
    expect(isGone(thisProcess())).toBe(false);
    expect(isGone(owner)).toBe(true);
    expect(isGone({ ...owner, place: { ...here, namespace: 'another' } })).toBe(false);
    expect(isGone({ ...thisProcess(), since: 'before' })).toBe(true);
    const { place: _, ...ofFormat1 } = owner;
    expect(isGone(ofFormat1)).toBe(true);
  });

  test('scratch folders of others stay, those of the dead go', () => {
    const name = (place: object): string => join(folder, `.scratch-${Object.values(place).join('-')}-${DEAD}-abcdef`);
    const [own, foreign, other] = [here, { ...here, host: '0'.repeat(8) }, { ...here, namespace: '0'.repeat(8) }].map(
      name,
    );
    for (const path of [own, foreign, other]) mkdirSync(path);
    const scratch = scratchFolder(folder);
    expect([own, foreign, other, scratch].map(path => existsSync(path))).toEqual([false, true, true, true]);
  });
});

describe('a lock', () => {
  const times = { look: 2, beat: 10, silence: 300 };
  const links = (path: string): string[] =>
    readdirSync(folder)
      .filter(name => name.startsWith(`${path}.lock-`))
      .map(name => join(folder, name));

  test('is held by one at a time, and is gone afterwards, also after an error', async () => {
    let inside = 0;
    const waited: unknown[] = [];
    const work = async (i: number): Promise<number> => {
      expect(++inside).toBe(1);
      await new Promise(resolve => setTimeout(resolve, 5));
      inside--;
      if (i === 3) throw new Error('mine');
      return i;
    };
    const outcomes = await Promise.allSettled(
      Array.from({ length: 8 }, (_, i) =>
        locked(
          join(folder, 'one'),
          holder => waited.push(holder.pid),
          () => work(i),
          times,
        ),
      ),
    );
    expect(outcomes.map(outcome => (outcome.status === 'fulfilled' ? outcome.value : 'mine'))).toEqual([
      ...[0, 1, 2, 'mine', 4, 5, 6, 7],
    ]);
    expect(waited).toEqual(waited.map(() => process.pid));
    expect(waited.length).toBeGreaterThanOrEqual(7);
    expect(links('one')).toEqual([]);
  });

  test.each<[string, object]>([
    ['a process that is gone', { pid: DEAD }],
    ['one of before a reboot', { place: { ...here, boot: 'another' } }],
  ])('of %s is taken over at once', async (_who, change) => {
    symlinkSync(JSON.stringify({ ...thisProcess(), ...change }), join(folder, 'two.lock-dead'));
    const never = (): never => {
      throw new Error('waits');
    };
    expect(await locked(join(folder, 'two'), never, async () => links('two').length, times)).toBe(1);
    expect(links('two')).toEqual([]);
  });

  test('of another host or container counts while it is renewed', async () => {
    const [link, place] = [join(folder, 'three.lock-far'), { ...here, namespace: 'another' }];
    symlinkSync(JSON.stringify({ ...thisProcess(), pid: DEAD, place }), link);
    let renewals = 0;
    const renewing = setInterval(() => {
      lutimesSync(link, new Date(), new Date());
      if (++renewals === 20) clearInterval(renewing);
    }, 20);
    const told: number[] = [];
    await locked(
      join(folder, 'three'),
      ({ pid }) => told.push(pid),
      async () => expect(renewals).toBe(20),
      times,
    );
    expect(told).toEqual([DEAD]);
    expect(existsSync(link)).toBe(false);
  });
});

describe('a file that is written whole', () => {
  test('keeps its mode, leaves nothing beside it, and follows no link', () => {
    const path = join(folder, 'file');
    writeFileAtomic(path, 'one');
    chmodSync(path, 0o600);
    writeFileAtomic(path, 'two');
    expect([readFileSync(path, 'utf8'), statSync(path).mode & 0o777]).toEqual(['two', 0o600]);
    expect(readdirSync(folder).filter(isTemporary)).toEqual([]);
    symlinkSync(path, join(folder, 'link'));
    writeFileAtomic(join(folder, 'link'), 'three');
    expect(readFileSync(path, 'utf8')).toBe('two');
  });

  test.runIf(existsSync('/proc/self'))('where no folder can be made is an error, in a sentence', () => {
    expect(() => ensureFolder('/proc/none/here')).toThrow(/ENOENT/);
    for (const path of ['/proc/none/x.zip', join(folder, 'file', 'x.zip')]) {
      let error: unknown;
      try {
        writeFileAtomic(path, 'x');
      } catch (thrown) {
        error = thrown;
      }
      expect(fileObstacle(error)).toMatch(/^'[^']+' (isn't there|lies in what is no folder|is there already).*\.$/);
      expect(fileObstacle(error)).not.toContain('.tmp');
    }
  });

  test('an obstacle is told of the file that was to be written, not of what stands in for it', () => {
    const told = (path: string) => fileObstacle({ code: 'EROFS', syscall: 'open', path });
    expect(told('/r/rows.json.0123456789abcdef.tmp')).toMatch(/^'\/r\/rows.json' .*--runs/);
    for (const path of [
      '/r/.scratch-6b103d30-5ca2824e-eb10ff4a-1-XXXXXX',
      '/r/.scratch-6b103d30-5ca2824e-eb10ff4a-1-AbCdEf/run',
    ])
      expect(told(path)).toMatch(/^'\/r' /);
  });
});
