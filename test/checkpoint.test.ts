import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Model } from '../lib/model/module';
import { createModel } from '../lib/model/registry';
import { torchShape } from '../lib/tensor/layout';
import { type Tensor, tf } from '../lib/tensor/tf';
import {
  loadTraining,
  loadWeights,
  saveTraining,
  saveWeights,
  type TrainingState,
  weightsDigest,
} from '../lib/train/checkpoint';
import { UserError } from '../lib/util/errors';
import type { HostTensor } from '../lib/weights/safetensors';
import { readTensors, writeTensors } from '../lib/weights/tensorFiles';
import { sha256 } from './training';

const folder = mkdtempSync(join(tmpdir(), 'checkpoint-'));
const path = join(folder, 'checkpoint.safetensors');
afterAll(() => rmSync(folder, { recursive: true }));

const small = (options: object = {}): Model =>
  createModel('edgevit-xxs', {
    numClasses: 3,
    size: 32,
    depths: '1,1,1,1',
    dims: '8,16,16,16',
    heads: '1,2,2,2',
    ...options,
  });
const model = small();
const PROGRESS = { step: 7, epoch: 1, lossSum: 0.1 + 0.2, correct: 5, best: { epoch: 1, top1: 1 / 3 } };
const LIKE = { slots: ['exp_avg', 'exp_avg_sq'], ema: true };

/** Every tensor with values of its own. */
function training(seed: number): TrainingState {
  const draw = (part: string) => model.init(`${seed}/${part}`);
  const { params, buffers } = draw('weights');
  const averaged = draw('ema');
  return {
    params,
    state: {
      buffers,
      slots: { exp_avg: draw('m').params, exp_avg_sq: draw('v').params },
      ema: { ...averaged.params, ...averaged.buffers },
    },
    progress: PROGRESS,
  };
}

const values = (tensors: Record<string, Tensor>) =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, [tensor.shape, [...tensor.dataSync()]]]));

describe('a training checkpoint', () => {
  test('gives back every bit', () => {
    const saved = training(0);
    saveTraining(path, model, saved);
    const loaded = loadTraining(path, model, LIKE);
    expect(loaded.progress).toEqual(PROGRESS);
    expect(values(loaded.params)).toEqual(values(saved.params));
    expect(values(loaded.state.buffers)).toEqual(values(saved.state.buffers));
    expect(values(loaded.state.ema)).toEqual(values(saved.state.ema));
    for (const slot of LIKE.slots) expect(values(loaded.state.slots[slot])).toEqual(values(saved.state.slots[slot]));
    const before = sha256(path);
    saveTraining(path, model, loaded);
    expect(sha256(path)).toBe(before);
  });

  test("holds PyTorch's state dict, names, shapes and order of values", () => {
    const saved = training(0);
    saveTraining(path, model, saved);
    const { tensors } = readTensors(path);
    for (const spec of model.params) expect(tensors[spec.name].shape).toEqual(torchShape(spec));
    expect(tensors['blocks1.0.SelfAttn.attn.LocalProp.weight'].shape).toEqual([8, 1, 4, 4]);
    expect(tensors['head.weight'].data).toEqual(tf.transpose(saved.params['head.weight']).dataSync());
    expect(tensors['norm.num_batches_tracked']).toEqual({ dtype: 'I64', shape: [], data: BigInt64Array.of(7n) });
    const unknown = Object.keys(tensors).filter(
      name =>
        !/^optimizer\.|^ema\./.test(name) &&
        !model.params.concat(model.buffers as never).some(spec => spec.name === name),
    );
    expect(unknown.every(name => name.endsWith('num_batches_tracked'))).toBe(true);
  });

  test('stays where it is, when the next has values that are not finite', () => {
    saveTraining(path, model, training(0));
    const before = sha256(path);
    for (const value of [NaN, Infinity]) {
      const broken = training(1);
      broken.state.slots.exp_avg['head.bias'] = tf.fill([3], value);
      expect(() => saveTraining(path, model, broken)).toThrow(/exp_avg.head.bias/);
    }
    expect(sha256(path)).toBe(before);
  });

  test.each<[string, Model, { slots: string[]; ema: boolean }]>([
    ['of another size', small({ dims: '8,16,16,32' }), LIKE],
    ['of another number of classes', small({ numClasses: 4 }), LIKE],
    ['of another image size', small({ size: 64 }), LIKE],
    ['of settings that change no shape', small({ delegate: 'mean' }), LIKE],
    ['of another optimizer', model, { slots: ['momentum_buffer'], ema: true }],
  ])('%s is refused', (_what, other, like) => {
    saveTraining(path, model, training(0));
    expect(() => loadTraining(path, other, like)).toThrow(UserError);
  });
});

describe('weights', () => {
  test('are read from a training checkpoint too, at any image size', () => {
    const saved = training(0);
    saveTraining(path, model, saved);
    const larger = small({ size: 64 });
    const { params, buffers } = loadWeights(path, larger);
    expect(weightsDigest(larger, params, buffers)).toBe(weightsDigest(model, saved.params, saved.state.buffers));
  });

  test('are no training checkpoint', () => {
    const { params, buffers } = model.init(0);
    saveWeights(path, model, params, buffers, 1);
    expect(() => loadTraining(path, model, LIKE)).toThrow(UserError);
  });

  test.each<[string, Model]>([
    ['with too little', small({ depths: '1,1,1,2' })],
    ['with too much', small({ localAgg: 'false,false,false,false' })],
    ['with another shape', small({ numClasses: 4 })],
  ])('of another model are refused: %s', (_what, other) => {
    const { params, buffers } = model.init(0);
    saveWeights(path, model, params, buffers, 1);
    expect(() => loadWeights(path, other)).toThrow(UserError);
  });
});

describe('safetensors', () => {
  const tensors: Record<string, HostTensor> = {
    a: { dtype: 'F32', shape: [2, 2], data: Float32Array.of(1, -0, NaN, 3e-45) },
    count: { dtype: 'I64', shape: [], data: BigInt64Array.of(-5n) },
    empty: { dtype: 'F32', shape: [0, 3], data: new Float32Array(0) },
    'ünïcode "name"': { dtype: 'F32', shape: [1], data: Float32Array.of(0.1) },
  };

  test('gives back what it was given, unusual names and values as well', () => {
    writeTensors(path, { tensors, metadata: { about: 'ünïcode' } });
    expect(readTensors(path)).toEqual({ tensors, metadata: { about: 'ünïcode' } });
  });

  test('follows the format: aligned, contiguous, nothing behind', () => {
    writeTensors(path, { tensors, metadata: {} });
    const bytes = readFileSync(path);
    const header = Number(bytes.readBigUInt64LE());
    expect(header % 8).toBe(0);
    const { __metadata__: _, ...entries } = JSON.parse(bytes.toString('utf8', 8, 8 + header)) as Record<
      string,
      { dtype: string; data_offsets: [number, number] }
    >;
    let at = 0;
    for (const {
      dtype,
      data_offsets: [begin, end],
    } of Object.values(entries)) {
      expect(begin).toBe(at);
      expect(begin % (dtype === 'I64' ? 8 : 4)).toBe(0);
      at = end;
    }
    expect(bytes.length).toBe(8 + header + at);
  });

  /** A file of this header and so many bytes of tensors. */
  const raw = (header: string, bytes: number): void => {
    const json = Buffer.from(header);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    writeFileSync(path, Buffer.concat([length, json, Buffer.alloc(bytes)]));
  };
  const entry = (name: string, begin: number, end: number): string =>
    `"${name}":{"dtype":"F32","shape":[1],"data_offsets":[${begin},${end}]}`;

  test('is read where offsets are in any order', () => {
    raw(`{${entry('b', 4, 8)},${entry('a', 0, 4)}}`, 8);
    expect(Object.keys(readTensors(path).tensors)).toEqual(['b', 'a']);
  });

  test.each<[string, () => void]>([
    ['is not there', () => rmSync(path)],
    ['is empty', () => truncateSync(path, 0)],
    ['ends in its header', () => truncateSync(path, 40)],
    ['ends in its tensors', () => truncateSync(path, readFileSync(path).length - 1)],
    [
      'is something else',
      () => writeFileSync(path, 'PK\x03\x04 and so on, as zip files and PyTorch checkpoints begin'),
    ],
    [
      'has another element type',
      () => writeFileSync(path, readFileSync(path).toString('latin1').replace('"F32"', '"F16"'), 'latin1'),
    ],
    ['has bytes behind its tensors', () => raw(`{${entry('a', 0, 4)}}`, 8)],
    ['has a gap between tensors', () => raw(`{${entry('a', 0, 4)},${entry('b', 8, 12)}}`, 12)],
    ['has a gap before its tensors', () => raw(`{${entry('a', 4, 8)}}`, 8)],
    ['has tensors that share bytes', () => raw(`{${entry('a', 0, 4)},${entry('b', 0, 4)},${entry('c', 4, 8)}}`, 8)],
    ['names a tensor twice', () => raw(`{${entry('a', 0, 4)},${entry('a', 4, 8)}}`, 8)],
    ['names a tensor twice in other letters', () => raw(`{${entry('a', 0, 4)},${entry('\\u0061', 4, 8)}}`, 8)],
    [
      'says an element type twice',
      () => raw(`{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4),
    ],
    ['is a list', () => raw('[]', 0)],
    ['has a name that fills a page', () => raw(`{"${'a'.repeat(8_000_000)}":1}`, 0)],
    [
      'has more tensors than any network',
      () => raw(`{${Array.from({ length: 100_001 }, (_, i) => `"${i}":0`).join()}}`, 0),
    ],
    ['names a tensor __proto__', () => raw(`{${entry('__proto__', 0, 4)}}`, 4)],
    [
      'has offsets beyond all',
      () => writeFileSync(path, readFileSync(path).toString('latin1').replace('[0,8]', '[9,1]'), 'latin1'),
    ],
  ])('a file that %s is refused in one sentence', (_what, damage) => {
    writeTensors(path, { tensors, metadata: {} });
    damage();
    let refusal: unknown;
    try {
      readTensors(path);
    } catch (error) {
      refusal = error;
    }
    expect(refusal).toBeInstanceOf(UserError);
    expect((refusal as UserError).message.length).toBeLessThan(500);
  });
});
