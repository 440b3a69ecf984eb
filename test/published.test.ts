import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { publishedWeights } from '../lib/runs/published';
import { UserError } from '../lib/util/errors';
import { importWeights } from '../lib/weights/import';
import { sha256 } from './training';

/** Written by PyTorch (make.py): the layout of EasyCV's checkpoint of XXS, every tensor filled with its place in the state dict. */
const CHECKPOINT = gunzipSync(readFileSync(join(__dirname, 'fixtures/pth/easycv-xxs.pth.gz')));

/** Entries of the state dict. */
const PLACES = 251;

let base: string;
let folder: string;
let lines: string[];
/** What the server sends, and from where it was asked to. */
let sent: Buffer;
let asked: string[];
let breakAt: number | undefined;

const server = createServer((request, response) => {
  asked.push(`${request.url} ${request.headers.range ?? ''}`);
  const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
  response.writeHead(from > 0 ? 206 : 200, {
    'content-length': sent.length - from,
    ...(from > 0 && { 'content-range': `bytes ${from}-${sent.length - 1}/${sent.length}` }),
  });
  if (breakAt === undefined) response.end(sent.subarray(from));
  else response.write(sent.subarray(from, breakAt), () => response.destroy());
  breakAt = undefined;
});
beforeAll(async () => {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/edgevit`;
});
afterAll(() => void server.close());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'published-'));
  [lines, asked, sent, breakAt] = [[], [], CHECKPOINT, undefined];
  return () => rmSync(folder, { recursive: true, force: true });
});

const get = (name = 'easycv:xxs'): Promise<string> =>
  publishedWeights(name, { folder, base, say: line => lines.push(line) });

describe('published weights', () => {
  test('are downloaded once, pinned, and told whose they are', async () => {
    const path = await get();
    expect(asked).toEqual(['/edgevit/edgexxs/ClsEvaluator_neck_top1_best.pth ']);
    expect(lines.join('\n')).toMatch(/75\.18 %.*third party/);
    expect(lines.join('\n')).toMatch(new RegExp(`${sha256(path)}.*trust on first use.*could not be checked`));
    expect(await get()).toBe(path);
    expect(asked).toHaveLength(1);
    const { model, map, tensors } = await importWeights(path);
    expect([model.name, model.numClasses, map]).toEqual(['edgevit-xxs', 1000, 'easycv']);
    expect(model.config).toMatchObject({ blockNormEps: 1e-8 });
    expect(tensors['patch_embed1.norm.weight'].data[0]).toBe(0);
    expect([tensors['head.weight'].data[0], tensors['head.bias'].data[0]]).toEqual([PLACES - 2, PLACES - 1]);
  });

  test('arrive whole although the connection breaks', async () => {
    breakAt = 1_000_000;
    const path = await get();
    expect(asked).toHaveLength(2);
    expect(asked[1]).toMatch(/bytes=\d+-/);
    expect(readFileSync(path).equals(CHECKPOINT)).toBe(true);
  });

  test('that are no weights are neither kept nor pinned', async () => {
    sent = Buffer.from('<html>Log in to this network</html>');
    await expect(get()).rejects.toThrow(UserError);
    expect(readdirSync(folder)).toEqual([]);
  });

  test('that were altered, here or there, are refused', async () => {
    const path = await get();
    truncateSync(path, 1000);
    await expect(get()).rejects.toThrow(/pinned/);
    rmSync(path);
    sent = Buffer.from(CHECKPOINT);
    sent[sent.indexOf('mmcv_version')] = 77; // still a state dict
    await expect(get()).rejects.toThrow(/pinned/);
    expect(existsSync(path)).toBe(false);
  });

  test('that nobody published are refused', () => expect(get('easycv:m')).rejects.toThrow(/'easycv:m'.*easycv:xxs/));
});
