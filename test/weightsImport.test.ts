import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import seedrandom from 'seedrandom';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createModel } from '../lib/model/registry';
import { torchShape } from '../lib/tensor/layout';
import { UserError } from '../lib/util/errors';
import { fromBfloat16, fromHalf } from '../lib/weights/elements';
import { importWeights, weightsFor } from '../lib/weights/import';
import { unpickle } from '../lib/weights/pickle';
import type { HostTensor } from '../lib/weights/safetensors';
import { readStateDict } from '../lib/weights/stateDict';
import { readTensors, writeTensors } from '../lib/weights/tensorFiles';
import { encodeTorchFile, writeTorchFile } from '../lib/weights/torchWriter';

const FIXTURES = join(__dirname, 'fixtures/pth');
const fixture = (name: string): string => join(FIXTURES, name);
const EXPECTED = JSON.parse(readFileSync(fixture('expected.json'), 'utf8')) as Record<
  string,
  { shape: number[]; values: number[] }
>;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'weights-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const plain = (tensors: Record<string, HostTensor>): Record<string, { shape: number[]; values: number[] }> =>
  Object.fromEntries(
    Object.entries(tensors).map(([name, { shape, data }]) => [
      name,
      { shape: [...shape], values: Array.from(data, Number) },
    ]),
  );

describe("files that PyTorch wrote, of each kind and with each kind of tensor's storage", () => {
  test.each(['zip.pth', 'legacy.pth', 'protocol4.pth'])('%s', async name => {
    const { tensors, format, key } = await readStateDict(fixture(name));
    expect(plain(tensors)).toEqual(EXPECTED);
    expect([format, key]).toEqual(['PyTorch', '']);
  });

  test('a checkpoint of a trainer gives its plain weights, without the wrapper’s prefix, and its average when asked', async () => {
    const found = await readStateDict(fixture('nested.pth'));
    expect(plain(found.tensors)).toEqual(EXPECTED);
    expect(found).toMatchObject({
      key: 'model',
      others: ['optimizer.state.0', 'model_ema'].filter(key => found.others.includes(key)),
    });
    const average = await readStateDict(fixture('nested.pth'), { key: 'model_ema' });
    expect(plain(average.tensors).weight!.values).toEqual(EXPECTED.weight!.values.map(value => value + 1));
    await expect(readStateDict(fixture('nested.pth'), { key: 'ema' })).rejects.toThrow(/'ema'.*'model'/);
  });
});

test('a written file is read again, and its bytes follow from its tensors', async () => {
  const { tensors } = await readStateDict(fixture('zip.pth'));
  const path = join(folder, 'written.pth');
  await writeTorchFile(path, tensors);
  const again = await readStateDict(path);
  expect(again.tensors).toEqual(tensors);
  expect(await encodeTorchFile(again.tensors)).toEqual(readFileSync(path));
});

describe('what is refused', () => {
  test.each([
    ['refused-system.pth', /posix\.system|nt\.system/],
    ['refused-eval.pth', /builtins\.eval|__builtin__\.eval/],
    ['refused-pickle.pth', /torch\.save/],
    ['refused-script.pth', /TorchScript/],
  ])('%s, by name, and nothing is executed', async (name, reason) => {
    await expect(readStateDict(fixture(name))).rejects.toThrow(reason);
    await expect(readStateDict(fixture(name))).rejects.toThrow(UserError);
    expect(existsSync('/tmp/executed')).toBe(false);
  });

  test('a file cut anywhere, or of other bytes anywhere, is read or refused by one sentence', async () => {
    const rng = seedrandom('mutations');
    for (const name of ['zip.pth', 'legacy.pth', 'nested.pth']) {
      const whole = readFileSync(fixture(name));
      for (let i = 0; i < 100; i++) {
        const bytes = Buffer.from(i % 4 === 0 ? whole.subarray(0, Math.floor(rng() * whole.length)) : whole);
        for (let flips = 0; flips < 1 + (i % 3); flips++)
          if (bytes.length > 0) bytes[Math.floor(rng() * bytes.length)] = Math.floor(rng() * 256);
        const path = join(folder, 'mutated.pth');
        writeFileSync(path, bytes);
        try {
          await readStateDict(path);
        } catch (error) {
          expect(error, `${name}, mutation ${i}: ${String(error)}`).toBeInstanceOf(UserError);
        }
      }
    }
  });

  const options = { name: 'hostile', global: () => undefined, persistent: () => null };
  const pickled = (...parts: (number | string)[]): Buffer =>
    Buffer.concat([
      Buffer.from([0x80, 2]),
      ...parts.map(part => (typeof part === 'number' ? Buffer.from([part]) : Buffer.from(part, 'latin1'))),
    ]);

  test.each([
    ['a page in place of the file', '<!DOCTYPE html><html></html>', /<!DOCTYP/],
    ['an empty one', '', /is empty/],
  ])('%s, by how it begins', async (_, content, reason) => {
    const path = join(folder, 'foreign.pth');
    writeFileSync(path, content);
    await expect(readStateDict(path)).rejects.toThrow(reason);
  });

  test('a key of a file that is a state dict itself', async () => {
    await expect(readStateDict(fixture('zip.pth'), { key: 'ema' })).rejects.toThrow(/leave --key out/);
  });

  test('a pickle that claims gigabytes, in any of the ways to claim them', () => {
    for (const opcode of [
      'X\xff\xff\xff\x7f',
      'B\xff\xff\xff\x7f',
      '\x8d\xff\xff\xff\xff\xff\x00\x00\x00',
      '\x8b\xff\xff\xff\x7f',
      'T\xff\xff\xff\xff',
    ])
      expect(() => unpickle(pickled(opcode, '.'), options)).toThrow(UserError);
  });

  test('a pickle nested a hundred thousand deep is read without recursion', () => {
    const { value } = unpickle(pickled(']'.repeat(100_000), 'a'.repeat(99_999), '.'), options);
    expect(value).toHaveLength(1);
  });

  test('views that show more than their storage holds', async () => {
    // A storage of two floats that is shown as 2 × 10⁹ of them, by strides of 0.
    const path = join(folder, 'views.pth');
    execFileSync('python3', ['-c', VIEWS, path]);
    await expect(readStateDict(path)).rejects.toThrow(/views|storage/);
  });

  test('safetensors with holes, overlaps, repeated and reserved names, and bytes behind the end', () => {
    const path = join(folder, 'bad.safetensors');
    const write = (header: string, bytes: number): void => {
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(header.length));
      writeFileSync(path, Buffer.concat([length, Buffer.from(header), Buffer.alloc(bytes)]));
    };
    const entry = (begin: number, end: number): string =>
      `{"dtype":"F32","shape":[${(end - begin) / 4}],"data_offsets":[${begin},${end}]}`;
    const refusal = (): string => {
      try {
        readTensors(path);
      } catch (error) {
        expect(error).toBeInstanceOf(UserError);
        return (error as Error).message;
      }
      return 'read';
    };
    write(`{"a":${entry(0, 4)},"b":${entry(4, 8)}}`, 8);
    expect(refusal()).toBe('read');
    write(`{"a":${entry(0, 4)},"b":${entry(8, 12)}}`, 12);
    expect(refusal()).toContain("'b'");
    write(`{"a":${entry(0, 8)},"b":${entry(4, 8)}}`, 8);
    expect(refusal()).toContain("'b'");
    write(`{"a":${entry(0, 4)}}`, 8);
    expect(refusal()).toContain('4 bytes');
    write(`{"a":${entry(0, 4)},"a":${entry(4, 8)}}`, 8);
    expect(refusal()).toContain("'a'");
    write(`{"__proto__":${entry(0, 4)}}`, 4);
    expect(refusal()).toContain('__proto__');
  });
});

test('halves and bfloat16 are exact, subnormals and infinities included', () => {
  expect([...fromHalf(Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x8001, 0x7bff, 0x7c00, 0xfc00, 0x3555))]).toEqual([
    1,
    -2,
    2 ** -24,
    -(2 ** -24),
    65504,
    Infinity,
    -Infinity,
    0.333251953125,
  ]);
  expect(fromHalf(Uint16Array.of(0x7e00))[0]).toBeNaN();
  expect([...fromBfloat16(Uint16Array.of(0x3f80, 0xc040, 0x0001))]).toEqual([1, -3, 2 ** -133]);
});

const zeros = (shape: readonly number[]): HostTensor => ({
  dtype: 'F32',
  shape,
  data: new Float32Array(shape.reduce((a, b) => a * b, 1)),
});

describe('weights by other names', () => {
  const SET = ['depths=1,1,1,1', 'dims=8,16,16,16', 'heads=1,2,2,2'];
  const model = createModel('edgevit-xxs', { numClasses: 5, size: 64, set: SET });
  const official = (): Record<string, HostTensor> =>
    Object.fromEntries(
      [...model.params, ...model.buffers].map((spec, i) => {
        const shape = torchShape(spec);
        const length = shape.reduce((a, b) => a * b, 1);
        return [spec.name, { dtype: 'F32', shape, data: new Float32Array(length).map((_, j) => i + j / 1024) }];
      }),
    );
  const renamed = (rename: (name: string) => string): string => {
    const path = join(folder, 'renamed.safetensors');
    writeTensors(path, {
      tensors: Object.fromEntries(Object.entries(official()).map(([name, tensor]) => [rename(name), tensor])),
      metadata: {},
    });
    return path;
  };
  const from = (path: string, options = {}) =>
    importWeights(path, { model: 'edgevit-xxs', set: SET, size: 64, ...options });
  const snake = (name: string): string =>
    name.replace('LocalAgg', 'local_agg').replace('SelfAttn', 'self_attn').replace('LocalProp', 'local_prop');

  test.each([
    ['official', (name: string) => name],
    [
      'easycv',
      (name: string) => (name.startsWith('head.') ? name.replace('head.', 'head.fc_cls.') : `backbone.${name}`),
    ],
    [
      'birder',
      (name: string) =>
        snake(name)
          .replace(/^patch_embed(\d)\./, 'body.stage$1.patch_embed.')
          .replace(/^blocks(\d)\./, 'body.stage$1.blocks.')
          .replace(/^norm\./, 'features.0.')
          .replace(/^head\./, 'classifier.'),
    ],
    [
      'timm',
      (name: string) =>
        snake(name)
          .replace(/^patch_embed(\d)\./, (_, stage) => `stages.${Number(stage) - 1}.downsample.`)
          .replace(/^blocks(\d)\./, (_, stage) => `stages.${Number(stage) - 1}.blocks.`)
          .replace(/^norm\./, 'head.norm.')
          .replace(/^head\.(weight|bias)$/, 'head.fc.$1'),
    ],
  ])('%s', async (map, rename) => {
    const weights = await from(renamed(rename));
    expect(weights.map).toBe(map);
    expect(plain(weights.tensors)).toEqual(plain(official()));
    expect((weights.model.config as { blockNormEps: number }).blockNormEps).toBe(map === 'easycv' ? 1e-8 : 1e-6);
  });

  test('a head without bias gets one of zeros, where the layout has none', async () => {
    const tensors = official();
    const body = Object.fromEntries(
      Object.entries(tensors)
        .filter(([name]) => name !== 'head.bias')
        .map(([name, tensor]) => [
          name.replace(/^patch_embed(\d)\./, 'body.stage$1.patch_embed.').replace(/^head\./, 'classifier.'),
          tensor,
        ]),
    );
    const path = join(folder, 'birder.safetensors');
    writeTensors(path, { tensors: body, metadata: {} });
    const weights = await from(path, { map: 'birder' });
    expect([...weights.tensors['head.bias']!.data]).toEqual([0, 0, 0, 0, 0]);
  });

  test('what is missing, unexpected or of another shape comes in one message of at most ten lines', async () => {
    const path = renamed(name => name.replace('blocks1.0.SelfAttn', 'blocks1.0.SelfAtn'));
    const error = await from(path).then(
      () => undefined,
      (reason: Error) => reason,
    );
    expect(error).toBeInstanceOf(UserError);
    const lines = error!.message.split('\n');
    expect(lines.length).toBeLessThanOrEqual(10);
    expect(lines[0]).toMatch(/edgevit-xxs/);
    expect(error!.message).toContain('blocks1.0.SelfAttn.pos_embed.weight');
  });

  test.each([
    ['of another width', { 'head.weight': [7, 3], 'head.bias': [7] }],
    ['of two numbers of classes', { 'head.weight': [7, 16], 'head.bias': [5] }],
  ])('a head %s is no head for other classes', async (_, shapes) => {
    const path = join(folder, 'head.safetensors');
    const head = Object.entries(shapes).map(([name, shape]) => [name, zeros(shape)]);
    writeTensors(path, { tensors: { ...official(), ...Object.fromEntries(head) }, metadata: {} });
    await expect(weightsFor(path, model)).rejects.toThrow(/'head\.weight' is \[7/);
    await expect(from(path)).rejects.toThrow(/'head\.\w+' is \[/);
  });

  test('a setting that no model has', async () => {
    await expect(from(renamed(String), { model: undefined, set: ['depht=1'] })).rejects.toThrow(/'depht'/);
  });

  test('what a file claims of its network is checked before it is built', async () => {
    const path = join(folder, 'claims.safetensors');
    const claims = (config: object): Promise<unknown> => {
      const metadata = { model: 'edgevit-xxs', config: JSON.stringify({ ...model.config, ...config }) };
      writeTensors(path, { tensors: official(), metadata });
      return importWeights(path);
    };
    await expect(claims({ depths: [1e9, 1, 1, 1] })).rejects.toThrow(/depths.* 1000/);
    await expect(claims({ dropPath: 5 })).rejects.toThrow(/dropPath/);
    await expect(claims({ dims: [1e9, 16, 16, 16] })).rejects.toThrow(/not \[1000000000/);
  });

  describe('the network is told', () => {
    const written = (prefix: string): string => {
      const { params, buffers } = createModel('mobilenet-v2', { numClasses: 7, size: 32 });
      const path = join(folder, 'unknown.safetensors');
      const tensors = [...params, ...buffers].map(spec => [prefix + spec.name, zeros(torchShape(spec))]);
      writeTensors(path, { tensors: Object.fromEntries(tensors), metadata: {} });
      return path;
    };

    test('by names and shapes', async () => {
      const { model } = await importWeights(written(''));
      expect([model.name, model.numClasses]).toEqual(['mobilenet-v2', 7]);
    });

    test('by shapes where all names are foreign, so that the nearest are of that network', async () => {
      await expect(importWeights(written('model.'))).rejects.toThrow(
        /mobilenet-v2.*\n.*the nearest in the file is 'model\./,
      );
    });
  });
});

/** Writes what `torch.save({'w': torch.zeros(2).expand(2 * 10**9)})` would, were it to keep strides of 0: no PyTorch is needed. */
const VIEWS = `
import pickle, sys, zipfile
class Storage:
    pass
class Pickler(pickle._Pickler):
    def persistent_id(self, thing):
        return ('storage', Float, '0', 'cpu', 2) if isinstance(thing, Storage) else None
class Float: pass
class Rebuild:
    def __init__(self, *args): self.args = args
    def __reduce__(self): return rebuild, self.args
def rebuild(*args): pass
import io, types
torch, utils = types.ModuleType('torch'), types.ModuleType('torch._utils')
Float.__module__, Float.__qualname__, Float.__name__ = 'torch', 'FloatStorage', 'FloatStorage'
rebuild.__module__, rebuild.__qualname__, rebuild.__name__ = 'torch._utils', '_rebuild_tensor_v2', '_rebuild_tensor_v2'
torch.FloatStorage, utils._rebuild_tensor_v2 = Float, rebuild
sys.modules['torch'], sys.modules['torch._utils'] = torch, utils
out = io.BytesIO()
Pickler(out, 2).dump({'w': Rebuild(Storage(), 0, (2 * 10**9,), (0,), False, None)})
with zipfile.ZipFile(sys.argv[1], 'w') as archive:
    archive.writestr('views/data.pkl', out.getvalue())
    archive.writestr('views/data/0', bytes(8))
`;
