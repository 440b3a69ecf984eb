import type * as TensorFlow from '@tensorflow/tfjs';
import { tf } from '../tensor/tf';

/** An attribute of a TensorFlow op as tfjs-node writes it; `type` is a TF_ATTR_* number. */
export interface Attr {
  name: string;
  type: number;
  value: string | number | boolean | readonly (string | number | boolean)[];
}

/** A tensor as the addon describes it; `dtype` is a TF_DataType number. */
export interface TensorHandle {
  id: number;
  dtype: number;
  shape: number[];
}

/** An output of a node of a native graph. An unknown dimension is −1, an unknown rank null. */
export interface NativeOutput {
  endpoint: number;
  dtype: number;
  shape: number[] | null;
}

/** One kernel's run within a step; times in microseconds. */
export interface KernelTiming {
  node: string;
  label: string;
  thread: number;
  start: number;
  duration: number;
}

export type Values = Float32Array | Int32Array | Uint8Array | BigInt64Array;

declare const graphBrand: unique symbol;
declare const sessionBrand: unique symbol;
export type NativeGraph = { [graphBrand]: true };
export type NativeSession = { [sessionBrand]: true };

/** The addon: tfjs-node's functions, and those of native/addon.cc. */
export interface Binding {
  createTensor(shape: number[], dtype: number, values: Values): number;
  deleteTensor(id: number): void;
  tensorDataSync(id: number): Values;
  getNumOfTensors(): number;
  executeOp(op: string, attrs: Attr[], inputs: number[], outputs: number): TensorHandle[];
  readonly TF_Version: string;
  /** The instruction set that the addon is built for, as `EDGEVIT_ISA` spells it; an addon of earlier sources does not say. */
  readonly isa?: string;
  readonly TF_FLOAT: number;
  readonly TF_INT32: number;
  readonly TF_INT64: number;
  readonly TF_BOOL: number;
  readonly TF_STRING: number;
  readonly TF_COMPLEX64: number;
  readonly TF_UINT8: number;
  readonly TF_ATTR_STRING: number;
  readonly TF_ATTR_INT: number;
  readonly TF_ATTR_FLOAT: number;
  readonly TF_ATTR_BOOL: number;
  readonly TF_ATTR_TYPE: number;
  readonly TF_ATTR_SHAPE: number;
  graphNew(): NativeGraph;
  graphOp(graph: NativeGraph, op: string, name: string, attrs: readonly Attr[], inputs: number[]): NativeOutput[];
  graphConst(graph: NativeGraph, name: string, dtype: number, shape: readonly number[], values: Values): NativeOutput[];
  /** Throws where TensorFlow computes no op with the types of the node that has this output. */
  requireKernel(graph: NativeGraph, endpoint: number): void;
  graphDef(graph: NativeGraph): Buffer;
  graphDelete(graph: NativeGraph): void;
  sessionNew(graphDef: Buffer, feeds: string[], fetches: string[], threads: number): NativeSession;
  sessionRun(session: NativeSession, tensors: number[]): TensorHandle[];
  sessionRunAsync(session: NativeSession, tensors: number[]): Promise<TensorHandle[]>;
  sessionProfile(session: NativeSession, tensors: number[]): KernelTiming[];
  sessionDelete(session: NativeSession): void;
}

/** What tfjs-node keeps of a tensor: values that wait to be written, or the id of the native tensor. */
export interface TensorRecord {
  shape: number[];
  dtype: number;
  values: Values | null;
  id: number;
}

/** tfjs-node's backend, as far as the compiler touches it. */
export interface NodeBackend {
  binding: Binding;
  tensorMap: { get(dataId: object): TensorRecord | undefined; has(dataId: object): boolean };
  getInputTensorIds(tensors: readonly TensorFlow.TensorInfo[]): number[];
  createOutputTensor(handle: TensorHandle): TensorFlow.Tensor;
  move(dataId: object, values: Values | null, shape: number[], dtype: string, refCount: number): void;
  readSync(dataId: object): Values;
  executeMultipleOutputs(
    op: string,
    attrs: Attr[],
    inputs: readonly TensorFlow.TensorInfo[],
    outputs: number,
  ): TensorFlow.Tensor[];
}

export function nodeBackend(): NodeBackend {
  return tf.backend() as unknown as NodeBackend;
}

/** Whether the addon in use is the lab's own, with graphs and fused kernels; tfjs-node's prebuilt one has neither. */
export function hasGraphs(): boolean {
  return tf.getBackend() === 'tensorflow' && 'graphNew' in nodeBackend().binding;
}
