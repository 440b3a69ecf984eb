import { createHash } from 'node:crypto';
import {
  cpSync,
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { createGzip, deflateSync } from 'node:zlib';
import sharp from 'sharp';
import { pack } from 'tar-stream';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { type Dataset, readPicture } from '../lib/data/dataset';
import { openDataset } from '../lib/data/open';
import { download } from '../lib/data/sources/download';
import { type Flowers102Options, type Flowers102Source, OXFORD } from '../lib/data/sources/flowers102';
import { readMat } from '../lib/data/sources/mat';
import { UserError } from '../lib/util/errors';

const FIXTURES = join(__dirname, 'fixtures');
const sum = (bytes: Uint8Array, kind = 'md5') => createHash(kind).update(bytes).digest('hex');
const fixture = (name: string) => readFileSync(join(FIXTURES, name));

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgevit-flowers-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A data element with its tag, in either byte order; all but compressed ones are padded to 8 bytes. */
function element(type: number, bytes: Uint8Array, little: boolean): Buffer {
  const out = Buffer.alloc(8 + (type === 15 ? bytes.length : Math.ceil(bytes.length / 8) * 8));
  const view = new DataView(out.buffer, out.byteOffset);
  view.setUint32(0, type, little);
  view.setUint32(4, bytes.length, little);
  out.set(bytes, 8);
  return out;
}

/** A MATLAB file of matrices of doubles (`kind` 6), written as 16-bit integers, as MATLAB does to save room. */
function matFile(
  arrays: Record<string, { shape: number[]; data: number[] }>,
  { little = true, compressed = false, kind = 6 } = {},
): Buffer {
  const words = (values: number[], bytes: 2 | 4) => {
    const out = new DataView(new ArrayBuffer(values.length * bytes));
    values.forEach((value, i) =>
      bytes === 2 ? out.setInt16(2 * i, value, little) : out.setInt32(4 * i, value, little),
    );
    return new Uint8Array(out.buffer);
  };
  const header = Buffer.alloc(128, ' ');
  header.write(little ? '\0\x01IM' : '\x01\0MI', 124, 'latin1');
  return Buffer.concat([
    header,
    ...Object.entries(arrays).map(([name, { shape, data }]) => {
      const parts: [number, Uint8Array][] = [
        [6, words([kind, 0], 4)],
        [5, words(shape, 4)],
        [1, Buffer.from(name)],
        [3, words(data, 2)],
      ];
      const matrix = element(14, Buffer.concat(parts.map(([type, bytes]) => element(type, bytes, little))), little);
      return compressed ? element(15, deflateSync(matrix), little) : matrix;
    }),
  ]);
}

const row = (...data: number[]) => ({ shape: [1, data.length], data });

describe('MATLAB files', () => {
  test('the real ones of Flowers-102', () => {
    expect(sum(fixture('imagelabels.mat'))).toBe(OXFORD.files['imagelabels.mat']);
    expect(sum(fixture('setid.mat'))).toBe(OXFORD.files['setid.mat']);
    const { labels } = readMat(fixture('imagelabels.mat'), 'imagelabels.mat');
    expect(labels.shape).toEqual([1, 8189]);
    expect(new Set(labels.data)).toEqual(new Set(Array.from({ length: 102 }, (_, i) => i + 1)));
    expect(Array.from(labels.data.subarray(0, 3))).toEqual([77, 77, 77]);
    const sets = readMat(fixture('setid.mat'), 'setid.mat');
    expect(Object.entries(sets).map(([name, { data }]) => [name, data.length])).toEqual([
      ['trnid', 1020],
      ['valid', 1020],
      ['tstid', 6149],
    ]);
    expect(new Set(Object.values(sets).flatMap(({ data }) => [...data])).size).toBe(8189);
    // Sums as scipy.io.loadmat gives them.
    expect([labels, sets.trnid, sets.valid, sets.tstid].map(({ data }) => data.reduce((a, b) => a + b))).toEqual([
      466705, 5073294, 5056562, 23404099,
    ]);
  });

  const values = { shape: [2, 3], data: [1, -2, 300, 4, 5, -6] };

  test.each([true, false].flatMap(little => [true, false].map(compressed => ({ little, compressed }))))(
    '%o',
    options => {
      expect(readMat(matFile({ values }, options), 'x.mat')).toEqual({
        values: { shape: [2, 3], data: Float64Array.from(values.data) },
      });
    },
  );

  test('passes over what is no numeric array', () =>
    expect(readMat(matFile({ values }, { kind: 4 }), 'x.mat')).toEqual({}));

  test('refuses what is no such file, or cut off anywhere', () => {
    expect(() => readMat(Buffer.from('PNG'), 'x.mat')).toThrow(UserError);
    const whole = matFile({ values }),
      packed = fixture('setid.mat');
    for (let end = 129; end < whole.length - 4; end += 5)
      expect(() => readMat(whole.subarray(0, end), 'x.mat'), `${end}`).toThrow(UserError);
    for (const end of [130, 300, packed.length - 20])
      expect(() => readMat(packed.subarray(0, end), 'x.mat'), `${end}`).toThrow(/x\.mat/);
    const flipped = Buffer.from(packed);
    flipped[200] ^= 0xff;
    expect(() => readMat(flipped, 'x.mat')).toThrow(UserError);
  });
});

/** The archive's true layout, with images whose grey is their label, and one that is corrupt. */
const CORRUPT = 4321;
let archive: Buffer;
let source: Flowers102Source;

/** Entries in the layout of the real archive: number → bytes. */
async function makeArchive(pictures: Iterable<[number: number, bytes: Buffer]>): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name: 'jpg/', type: 'directory' });
  for (const [number, bytes] of pictures)
    tar.entry({ name: `jpg/image_${String(number).padStart(5, '0')}.jpg` }, bytes);
  tar.finalize();
  return buffer(tar.pipe(createGzip({ level: 1 })));
}

beforeAll(async () => {
  const { labels } = readMat(fixture('imagelabels.mat'), 'imagelabels.mat');
  const jpegs = await Promise.all(
    Array.from({ length: 103 }, (_, label) =>
      sharp({
        create: { width: 16, height: 16, channels: 3, background: { r: 2 * label, g: 2 * label, b: 2 * label } },
      })
        .jpeg({ quality: 95 })
        .toBuffer(),
    ),
  );
  archive = await makeArchive(
    Array.from(labels.data, (label, i) => [i + 1, i + 1 === CORRUPT ? Buffer.from('not a JPEG') : jpegs[label]]),
  );
  source = { url: 'http://127.0.0.1:9/', files: { ...OXFORD.files, '102flowers.tgz': sum(archive) } };
});

describe('Flowers-102', () => {
  let own: string;
  beforeEach(() => {
    own = join(folder, 'own');
    mkdirSync(own);
    for (const name of ['imagelabels.mat', 'setid.mat']) cpSync(join(FIXTURES, name), join(own, name));
    writeFileSync(join(own, '102flowers.tgz'), archive);
  });
  const open = (spec = 'flowers102', options: Flowers102Options = {}): Promise<Dataset> =>
    openDataset(spec, { flowers102Dir: own, cacheDir: join(folder, 'cache'), report: () => {}, source, ...options });

  test('pairs every image with its label, in the official split and in Paddle’s', async () => {
    const official = await open();
    expect(official.classes.length).toBe(102);
    expect([official.train.length, official.val!.length, official.test.length]).toEqual([1020, 1020, 6149 - 1]);
    expect(official.skipped.map(({ name }) => name)).toEqual([`jpg/image_0${CORRUPT}.jpg`]);
    const { labels } = readMat(fixture('imagelabels.mat'), 'imagelabels.mat');
    for (const split of [official.train, official.val!, official.test]) {
      for (let i = 0; i < split.length; i += 97) {
        const number = Number(/\d+/.exec(split.names[i])![0]);
        expect(split.labels[i]).toBe(labels.data[number - 1] - 1);
        expect(Math.abs(readPicture(split, i).pixels[0] - 2 * labels.data[number - 1])).toBeLessThan(2);
      }
    }
    const paddle = await open('flowers102:split=paddle', { source: { ...source, url: 'http://127.0.0.1:9/gone/' } });
    expect([paddle.train.names, paddle.val!.names, paddle.test.names]).toEqual([
      official.test.names,
      official.val!.names,
      official.train.names,
    ]);
    expect(paddle.fingerprint).not.toBe(official.fingerprint);
  });

  test.each([
    ['unpacked', (number: number) => `jpg/image_${String(number).padStart(5, '0')}.jpg`],
    [
      'in folders of classes, as handed round',
      (number: number) => `train/${number % 7}/image_${String(number).padStart(5, '0')}.jpg`,
    ],
  ])('is read from its images, %s', async (_, place) => {
    rmSync(join(own, '102flowers.tgz'));
    const jpeg = await sharp({ create: { width: 8, height: 8, channels: 3, background: 'red' } })
      .jpeg()
      .toBuffer();
    const files = {
      'imagelabels.mat': matFile({ labels: row(1, 2, 3, 102) }),
      'setid.mat': matFile({ trnid: row(3, 1), valid: row(2), tstid: row(4) }),
    };
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(own, name), bytes);
    const sums = {
      ...source.files,
      'imagelabels.mat': sum(files['imagelabels.mat']),
      'setid.mat': sum(files['setid.mat']),
    };
    const unpacked = () => open('flowers102', { source: { ...source, files: sums } });
    for (const number of [1, 2, 3]) {
      mkdirSync(join(own, place(number), '..'), { recursive: true });
      writeFileSync(join(own, place(number)), jpeg);
    }
    await expect(unpacked()).rejects.toThrow(/lacks 1 image.* 4/);
    mkdirSync(join(own, place(4), '..'), { recursive: true });
    writeFileSync(join(own, place(4)), jpeg);
    const { train, val, test: tested } = await unpacked();
    expect([train.labels, val!.labels, tested.labels].map(of => [...of])).toEqual([[0, 2], [1], [101]]);
    expect(train.names).toEqual([place(1), place(3)]);
  });

  test('is downloaded where no folder is given, once', async () => {
    const jpeg = await sharp({ create: { width: 8, height: 8, channels: 3, background: 'red' } })
      .jpeg()
      .toBuffer();
    const files = {
      'imagelabels.mat': matFile({ labels: row(1, 2, 102) }),
      'setid.mat': matFile({ trnid: row(1), valid: row(2), tstid: row(3) }),
      '102flowers.tgz': await makeArchive([1, 2, 3].map(number => [number, jpeg])),
    };
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(own, name), bytes);
    const sums = Object.fromEntries(
      Object.entries(files).map(([name, bytes]) => [name, sum(bytes)]),
    ) as Flowers102Source['files'];
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(basename(request.url!));
      createReadStream(join(own, basename(request.url!))).pipe(response);
    });
    onTestFinished(() => void server.close());
    vi.spyOn(process.stderr, 'write').mockReturnValue(true); // the progress
    onTestFinished(() => void vi.restoreAllMocks());
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const downloaded = () =>
      open('flowers102', {
        flowers102Dir: undefined,
        downloadDir: join(folder, 'downloads'),
        source: { url, files: sums },
      });
    expect((await downloaded()).train.length).toBe(1);
    rmSync(join(folder, 'downloads'), { recursive: true }); // the cache is all that is needed
    expect((await downloaded()).train.length).toBe(1);
    expect(asked).toEqual(['imagelabels.mat', 'setid.mat', '102flowers.tgz']);
  });

  test.each<[string, () => void | Promise<void>, RegExp]>([
    ['a missing file', () => rmSync(join(own, 'setid.mat')), /setid\.mat/],
    ['a missing folder', () => rmSync(own, { recursive: true }), /102flowers\.tgz/],
    [
      'an archive cut off',
      () => writeFileSync(join(own, '102flowers.tgz'), archive.subarray(0, 1000)),
      /102flowers\.tgz has md5/,
    ],
    [
      'a changed list',
      () => writeFileSync(join(own, 'imagelabels.mat'), fixture('setid.mat')),
      /imagelabels\.mat has md5/,
    ],
  ])('refuses %s', async (_, damage, says) => {
    await damage();
    await expect(open()).rejects.toThrow(UserError);
    await expect(open()).rejects.toThrow(says);
    expect(existsSync(join(folder, 'cache', 'index.json'))).toBe(false);
  });

  /** Opens other files, with the sums that they have. */
  function openFiles(files: Record<keyof Flowers102Source['files'], Uint8Array | string>): Promise<Dataset> {
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(own, name), bytes);
    const sums = Object.fromEntries(
      Object.keys(files).map(name => [name, sum(readFileSync(join(own, name)))]),
    ) as Flowers102Source['files'];
    return open('flowers102', { source: { ...source, files: sums } });
  }

  test('refuses lists and archives that do not fit each other', async () => {
    const jpeg = await sharp({ create: { width: 8, height: 8, channels: 3, background: 'red' } })
      .jpeg()
      .toBuffer();
    const whole = await makeArchive([
      [1, jpeg],
      [2, jpeg],
      [3, jpeg],
      [4, jpeg],
    ]);
    const labels = matFile({ labels: row(1, 2, 3, 102) }),
      sets = matFile({ trnid: row(3, 1), valid: row(2), tstid: row(4) });
    const files = { '102flowers.tgz': whole, 'imagelabels.mat': labels, 'setid.mat': sets };
    const data = await openFiles(files);
    expect([data.train.labels, data.val!.labels, data.test.labels].map(of => [...of])).toEqual([[0, 2], [1], [101]]);

    const refused: [Partial<typeof files>, RegExp][] = [
      [
        {
          '102flowers.tgz': await makeArchive([
            [1, jpeg],
            [2, jpeg],
            [4, jpeg],
          ]),
        },
        /lacks 1 image.* 3/,
      ],
      [{ '102flowers.tgz': whole.subarray(0, whole.length / 2) }, /can't be unpacked/],
      [{ '102flowers.tgz': Buffer.from('hello') }, /can't be unpacked/],
      [{ 'imagelabels.mat': matFile({ labels: row(1, 2, 3, 103) }) }, /image 4.*103/],
      [{ 'imagelabels.mat': matFile({ labels: row(1, 2, 3) }) }, /image 4/],
      [{ 'imagelabels.mat': sets }, /'labels'/],
      [{ 'setid.mat': matFile({ trnid: row(3, 1), valid: row(2), tstid: row(4, 1) }) }, /image 1 .*two/],
    ];
    for (const [change, says] of refused) {
      await expect(openFiles({ ...files, ...change })).rejects.toThrow(UserError);
      await expect(openFiles({ ...files, ...change })).rejects.toThrow(says);
    }
  });
});

describe('a download', () => {
  const content = Buffer.alloc(300_000, 'petals and stamens ');
  let server: Server;
  let requests: (string | undefined)[];
  let answer: (request: IncomingMessage, response: ServerResponse) => void;

  beforeAll(async () => {
    server = createServer((request, response) => {
      requests.push(request.headers.range);
      answer(request, response);
    });
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  });
  afterAll(() => server.close());
  afterEach(() => {
    vi.restoreAllMocks();
  });
  beforeEach(() => {
    requests = [];
    answer = whole;
    vi.spyOn(process.stderr, 'write').mockReturnValue(true); // the progress
  });

  const from = (request: IncomingMessage) => Number(/^bytes=(\d+)-\d*$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  /** What begins the answer of a file server. */
  const head = (request: IncomingMessage, response: ServerResponse, more: object = {}): void => {
    const start = from(request);
    const range = start ? { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` } : {};
    response.writeHead(start ? 206 : 200, { 'content-length': content.length - start, ...range, ...more });
  };
  /** Answers as a file server does. */
  const whole = (request: IncomingMessage, response: ServerResponse): void => {
    const start = from(request);
    if (start >= content.length) return void response.writeHead(416).end();
    head(request, response, { 'content-encoding': 'x-gzip' });
    response.end(content.subarray(start));
  };
  /** Breaks the connection when some more bytes have reached the disk. */
  const broken =
    (bytes: number) =>
    (request: IncomingMessage, response: ServerResponse): void => {
      const end = from(request) + bytes;
      if (end >= content.length) {
        whole(request, response);
        return;
      }
      head(request, response);
      response.write(content.subarray(from(request), end));
      const timer = setInterval(() => {
        if (statSync(join(folder, 'file.part'), { throwIfNoEntry: false })?.size !== end) return;
        clearInterval(timer);
        response.destroy();
      }, 5);
    };
  const get = (options = {}) =>
    download(`http://127.0.0.1:${(server.address() as AddressInfo).port}/file`, join(folder, 'file'), {
      md5: sum(content),
      wait: 1,
      ...options,
    });
  const arrived = () => readFileSync(join(folder, 'file')).equals(content); // toEqual takes seconds

  test('arrives whole, past a redirect', async () => {
    answer = (_request, response) => {
      answer = whole;
      response.writeHead(302, { location: '/elsewhere' }).end();
    };
    await get();
    expect(arrived()).toBe(true);
    expect(existsSync(join(folder, 'file.part'))).toBe(false);
  });

  test('resumes where the connection broke', async () => {
    answer = broken(100_000);
    await get();
    expect(arrived()).toBe(true);
    const last = content.length - 1;
    expect(requests).toEqual([undefined, `bytes=100000-${last}`, `bytes=200000-${last}`]);
  });

  test('resumes in the next run where this one had to stop', async () => {
    answer = broken(1000);
    await expect(get({ retries: 0 })).rejects.toThrow(UserError);
    expect(existsSync(join(folder, 'file'))).toBe(false);
    answer = whole;
    await get();
    expect(arrived()).toBe(true);
    expect(requests.at(-1)).toBe('bytes=1000-');
  });

  test('starts again where the server cannot continue', async () => {
    writeFileSync(join(folder, 'file.part'), content.subarray(0, 5000));
    answer = (_, response) => response.writeHead(200, { 'content-length': content.length }).end(content);
    await get();
    expect(arrived()).toBe(true);
  });

  test('that had all its bytes already needs no more', async () => {
    writeFileSync(join(folder, 'file.part'), content);
    await get();
    expect(arrived()).toBe(true);
  });

  test('of the wrong bytes is deleted and told', async () => {
    answer = (_, response) => response.end('a page of the hotel’s network');
    await expect(get()).rejects.toThrow(/md5/);
    expect([existsSync(join(folder, 'file')), existsSync(join(folder, 'file.part'))]).toEqual([false, false]);
  });

  test('that the server refuses, or nobody answers, is told in one sentence', async () => {
    answer = (_, response) => response.writeHead(404).end();
    await expect(get()).rejects.toThrow(/404/);
    expect(requests.length).toBe(1);
    await expect(
      download('http://127.0.0.1:9/file', join(folder, 'file'), { md5: '', retries: 1, wait: 1 }),
    ).rejects.toThrow(UserError);
  });
});
