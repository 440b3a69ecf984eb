import { type FileHandle, open } from 'node:fs/promises';
import * as yauzl from 'yauzl';
import { UserError } from '../util/errors';
import { convert, ELEMENT_BYTES, type ElementType } from './elements';
import { type Dict, type Global, Tuple, unpickle } from './pickle';
import type { HostTensor } from './safetensors';

/*
 * PyTorch's own files, `torch.save` of any version since 0.1.10: a zip archive of `data.pkl` and one entry for each storage (since
 * 1.6), or pickles one after another with the storages behind them (before). torch/serialization.py and torch/_utils.py at v2.9 are
 * the source of the layouts.
 */

/** Torch's storage classes and dtypes → element types. Complex and quantised ones are not read. */
const STORAGES: Record<string, ElementType> = {
  DoubleStorage: 'F64',
  FloatStorage: 'F32',
  HalfStorage: 'F16',
  BFloat16Storage: 'BF16',
  LongStorage: 'I64',
  IntStorage: 'I32',
  ShortStorage: 'I16',
  CharStorage: 'I8',
  ByteStorage: 'U8',
  BoolStorage: 'BOOL',
};

const DTYPES: Record<string, ElementType> = {
  float64: 'F64',
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
  int64: 'I64',
  int32: 'I32',
  int16: 'I16',
  int8: 'I8',
  uint8: 'U8',
  bool: 'BOOL',
};

/** The bytes of some tensors, as the pickle describes them: `elements` of `type`, or untyped bytes. */
interface Storage {
  readonly key: string;
  readonly type: ElementType | 'bytes';
  readonly elements: number;
}

/** A tensor as the pickle describes it; its values lie in the storage. Offset and strides in elements. */
export class TensorView {
  constructor(
    readonly storage: Storage,
    readonly dtype: ElementType,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {}
}

/** An opened file: what was saved, and the values of any of its tensors. */
export interface TorchFile {
  /** Dicts are Maps, tensors are TensorViews. */
  readonly root: unknown;
  /** The values of some tensors by name. Throws UserError where a view leaves its storage. */
  tensors(views: ReadonlyMap<string, TensorView>): Promise<Record<string, HostTensor>>;
  close(): Promise<void>;
}

/** Largest pickle that is read, as the objects of one take some twenty times its bytes. A state dict takes 100 bytes a tensor. */
const MAX_PICKLE_BYTES = 16 * 2 ** 20;
/** Elements that tensors may hold for each element that their storages hold: tied weights and an average share, nothing shares more. */
const MAX_SHARING = 4;
const ZIP = Buffer.from('PK\x03\x04');
/** torch/serialization.py, MAGIC_NUMBER: the first pickle of a file of before 1.6. */
const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;

/** Opens a `.pth` or `.pt` file. Throws UserError for what is none, is damaged, or asks for more than tensors and plain containers. */
export async function openTorchFile(path: string): Promise<TorchFile> {
  const file = await openFile(path);
  try {
    const start = await readAt(path, file, 0, Math.min(4, (await file.stat()).size));
    const opened = ZIP.equals(start) ? await openZip(path, file) : await openLegacy(path, file);
    return { ...opened, close: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

const refuse = (path: string, why: string): never => {
  throw new UserError(`'${path}' is not a readable PyTorch file: ${why}.`);
};

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (error) {
    throw new UserError(`Cannot read '${path}': ${(error as Error).message}.`);
  }
}

async function readAt(path: string, file: FileHandle, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.from(new ArrayBuffer(length));
  for (let at = 0; at < length; ) {
    const { bytesRead } = await file.read(bytes, at, length - at, position + at);
    if (bytesRead === 0) refuse(path, `it is cut short at byte ${position + at}`);
    at += bytesRead;
  }
  return bytes;
}

// The zip format

interface Member {
  /** Where its bytes begin in the file. */
  position: number;
  size: number;
}

async function openZip(path: string, file: FileHandle): Promise<Omit<TorchFile, 'close'>> {
  const members = await zipMembers(path, file);
  const pickles = [...members].filter(([name]) => /^[^/]+\/data\.pkl$/.test(name));
  if (pickles.length !== 1) return refuse(path, `its archive has ${pickles.length} members data.pkl, one is expected`);
  const [[name, pickle]] = pickles as [[string, Member]];
  const folder = name.slice(0, -'data.pkl'.length);
  const byteOrder = members.get(`${folder}byteorder`);
  if (byteOrder && byteOrder.size < 16) {
    const order = (await readAt(path, file, byteOrder.position, byteOrder.size)).toString();
    if (order !== 'little') refuse(path, `its byte order is '${order}', only little-endian files are read`);
  }
  if (pickle.size > MAX_PICKLE_BYTES)
    refuse(path, `its data.pkl has ${pickle.size} bytes, ${MAX_PICKLE_BYTES} at most are read`);
  const storages = new Map<string, Storage>();
  const bytes = await readAt(path, file, pickle.position, pickle.size);
  const { value: root } = unpickle(bytes, {
    name: path,
    global: allowed,
    persistent: id => storageOf(path, id, storages),
  });
  const locate = ({ key, type, elements }: Storage): Member => {
    const member = members.get(`${folder}data/${key}`) ?? refuse(path, `its storage '${key}' is missing`);
    const expected = elements * (type === 'bytes' ? 1 : ELEMENT_BYTES[type]);
    if (member.size !== expected) refuse(path, `its storage '${key}' has ${member.size} bytes, not ${expected}`);
    return member;
  };
  return { root, tensors: views => materialise(path, file, views, locate) };
}

/** The members of a zip that `torch.save` wrote: stored as they are, so that none can grow while it is read. */
async function zipMembers(path: string, file: FileHandle): Promise<Map<string, Member>> {
  const members = new Map<string, Member>();
  const { size } = await file.stat();
  let last = '';
  try {
    const zip = await yauzl.openPromise(path, { strictFileNames: true, autoClose: true, lazyEntries: true });
    let total = 0;
    for await (const entry of zip.eachEntry()) {
      last = entry.fileName;
      if (/^[^/]+\/(constants\.pkl$|code\/)/.test(last)) refuse(path, 'it is a TorchScript program, not a state dict');
      if (entry.compressionMethod !== 0 || entry.isEncrypted())
        refuse(path, `its member ${JSON.stringify(last)} is compressed or encrypted, which PyTorch never does`);
      if (members.has(last)) refuse(path, `its member ${JSON.stringify(last)} comes twice`);
      total += entry.uncompressedSize;
      if (total > size) refuse(path, 'its members hold more than the file');
      const header = await readAt(path, file, entry.relativeOffsetOfLocalHeader, 30);
      const position = entry.relativeOffsetOfLocalHeader + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
      if (!ZIP.equals(header.subarray(0, 4)) || position + entry.uncompressedSize > size)
        refuse(path, `its member ${JSON.stringify(last)} is cut short`);
      members.set(last, { position, size: entry.uncompressedSize });
    }
    return members;
  } catch (error) {
    if (error instanceof UserError) throw error;
    return refuse(path, `its archive is damaged (${(error as Error).message.split(/\.(?: |$)/)[0]})`);
  }
}

// The format of before 1.6

async function openLegacy(path: string, file: FileHandle): Promise<Omit<TorchFile, 'close'>> {
  const { size } = await file.stat();
  if (size === 0) refuse(path, 'it is empty');
  const head = await readAt(path, file, 0, Math.min(size, MAX_PICKLE_BYTES));
  if (head.length > 262 && head.subarray(257, 262).toString() === 'ustar')
    refuse(path, 'it is a tar archive of PyTorch before 0.1.10: save it again with a newer PyTorch');
  const storages = new Map<string, Storage>();
  let at = 0;
  const next = (): unknown => {
    const { value, end } = unpickle(
      head,
      { name: path, global: allowed, persistent: id => storageOf(path, id, storages) },
      at,
    );
    at = end;
    return value;
  };
  const magic = head[0] === 0x80 ? next() : undefined;
  if (magic !== LEGACY_MAGIC) refuse(path, 'it is neither a zip archive nor a pickle that torch.save wrote');
  const version = next();
  if (version !== 1001) refuse(path, `its protocol version is ${String(version)}, 1001 is expected`);
  const system = next();
  if (system instanceof Map && system.get('little_endian') === false) refuse(path, 'it was written big-endian');
  const root = next();
  const keys = next();
  if (!Array.isArray(keys)) return refuse(path, 'its list of storages is missing');
  const places = new Map<string, Member>();
  for (const key of keys) {
    const storage = storages.get(String(key));
    const count = Number((await readAt(path, file, at, 8)).readBigInt64LE());
    if (!storage || storage.type === 'bytes')
      return refuse(path, `nothing uses its storage '${String(key).slice(0, 40)}'`);
    if (count !== storage.elements)
      refuse(path, `its storage '${storage.key}' has ${count} elements, not ${storage.elements}`);
    const bytes = count * ELEMENT_BYTES[storage.type];
    if (!(bytes >= 0 && at + 8 + bytes <= size)) refuse(path, `it is cut short at its storage '${storage.key}'`);
    places.set(storage.key, { position: at + 8, size: bytes });
    at += 8 + bytes;
  }
  const locate = ({ key }: Storage): Member => places.get(key) ?? refuse(path, `its storage '${key}' is missing`);
  return { root, tensors: views => materialise(path, file, views, locate) };
}

// What the pickle may ask for

/** `('storage', class, key, location, elements[, view])`; before 0.4 a module's source is kept beside it, which is passed over. */
function storageOf(path: string, id: unknown, storages: Map<string, Storage>): unknown {
  if (!(id instanceof Tuple)) return refuse(path, 'it has an object outside the pickle that is no storage');
  const [kind, storageClass, key, , elements] = id;
  if (kind === 'module') return storageClass;
  const type = (storageClass as Partial<StorageClass> | undefined)?.storage;
  if (kind !== 'storage' || type === undefined || !isCount(elements))
    return refuse(path, 'it has an object outside the pickle that is no storage');
  if (id.length > 5 && id[5] !== null)
    return refuse(path, 'its storages are views of one another, as PyTorch before 0.4 wrote them: save it again');
  const storage: Storage = { key: String(key), type, elements };
  const known = storages.get(storage.key);
  if (known && (known.type !== type || known.elements !== elements))
    return refuse(path, `its storage '${storage.key}' is described in two ways`);
  storages.set(storage.key, storage);
  return known ?? storage;
}

interface StorageClass extends Global {
  readonly storage: ElementType | 'bytes';
}

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

const notCalled = (name: string) => (): never => {
  throw new UserError(`A pickle calls ${name}, which is only a name there.`);
};

/** A namespace or record: its state becomes a dict. */
const record = (name: string): Global => ({
  name,
  call: () => new Map(),
  build(target, state) {
    if (target instanceof Map && state instanceof Map) for (const [key, value] of state) target.set(key, value);
  },
});

const pairs = (items: unknown): Dict => {
  const made: Dict = new Map();
  if (items instanceof Map) for (const [key, value] of items) made.set(key, value);
  else if (Array.isArray(items))
    for (const item of items) if (Array.isArray(item) && item.length === 2) made.set(item[0], item[1]);
  return made;
};

const list = (items: unknown): unknown[] =>
  Array.isArray(items) ? Array.from(items) : items instanceof Set ? [...items] : [];

function tensor(args: readonly unknown[], dtype?: ElementType): TensorView {
  const [storage, offset, size, strides] = args as [Storage, unknown, unknown, unknown];
  const counts = (value: unknown): value is number[] =>
    Array.isArray(value) && value.length <= 64 && value.every(isCount);
  const type = dtype ?? storage?.type;
  if (
    !isCount(offset) ||
    !counts(size) ||
    !counts(strides) ||
    size.length !== strides.length ||
    !type ||
    type === 'bytes'
  )
    throw new UserError('A pickle describes a tensor in a way that PyTorch never does.');
  return new TensorView(storage, type, offset, [...size], [...strides]);
}

/** Everything that a pickle may name. Numbers, containers and what rebuilds a tensor; records only carry their fields. */
const GLOBALS: Record<string, Global> = Object.fromEntries(
  (
    [
      { name: 'torch._utils._rebuild_tensor', call: args => tensor(args) },
      { name: 'torch._utils._rebuild_tensor_v2', call: args => tensor(args) },
      {
        name: 'torch._utils._rebuild_tensor_v3',
        call: args => tensor(args, (args[6] as { dtype?: ElementType })?.dtype),
      },
      { name: 'torch._utils._rebuild_parameter', call: args => args[0] },
      { name: 'torch._utils._rebuild_parameter_with_state', call: args => args[0] },
      { name: 'torch.Size', call: args => list(args[0]) },
      { name: 'torch.device', call: args => args.map(String).join(':') },
      { name: 'collections.OrderedDict', call: args => pairs(args[0]) },
      { name: 'collections.defaultdict', call: () => new Map() },
      { name: 'collections.Counter', call: args => pairs(args[0]) },
      record('argparse.Namespace'),
      record('types.SimpleNamespace'),
      ...['pathlib.PosixPath', 'pathlib.PurePosixPath', 'pathlib.WindowsPath'].map(
        (name): Global => ({ name, call: args => args.map(String).join('/') }),
      ),
      ...['builtins', '__builtin__'].flatMap((module): Global[] => [
        { name: `${module}.list`, call: args => list(args[0]) },
        { name: `${module}.tuple`, call: args => list(args[0]) },
        { name: `${module}.set`, call: args => new Set(list(args[0])) },
        { name: `${module}.frozenset`, call: args => new Set(list(args[0])) },
        { name: `${module}.dict`, call: args => pairs(args[0]) },
        { name: `${module}.int`, call: args => Number(args[0] ?? 0) },
        { name: `${module}.float`, call: args => Number(args[0] ?? 0) },
        { name: `${module}.bool`, call: args => Boolean(args[0]) },
        { name: `${module}.complex`, call: args => list(args) },
        { name: `${module}.bytearray`, call: args => args[0] ?? new Uint8Array() },
      ]),
      { name: '_codecs.encode', call: args => Buffer.from(String(args[0]), 'latin1') },
      // A metric kept as numpy's scalar, as trainers leave them beside the weights: only its bytes are held.
      ...['numpy.core.multiarray.scalar', 'numpy._core.multiarray.scalar'].map(
        (name): Global => ({ name, call: args => args[1] ?? null }),
      ),
      { name: 'numpy.dtype', call: () => new Map() },
      ...Object.entries(STORAGES).map(
        ([name, storage]): StorageClass => ({ name: `torch.${name}`, storage, call: notCalled(`torch.${name}`) }),
      ),
      ...['torch.storage.UntypedStorage', 'torch.UntypedStorage'].map(
        (name): StorageClass => ({ name, storage: 'bytes', call: notCalled(name) }),
      ),
      ...Object.entries(DTYPES).map(([name, dtype]) => ({
        name: `torch.${name}`,
        dtype,
        call: notCalled(`torch.${name}`),
      })),
    ] as Global[]
  ).map(entry => [entry.name, entry]),
);

function allowed(module: string, name: string): Global | undefined {
  const full = `${module}.${name}`;
  return Object.hasOwn(GLOBALS, full) ? GLOBALS[full] : undefined;
}

// Values

/** Reads the storages of some views and copies each view's elements, in row-major order, as float32 or 64-bit integers. */
async function materialise(
  path: string,
  file: FileHandle,
  views: ReadonlyMap<string, TensorView>,
  locate: (storage: Storage) => Member,
): Promise<Record<string, HostTensor>> {
  const users = new Map<string, [string, TensorView][]>();
  let held = 0;
  let asked = 0;
  for (const [name, view] of views) {
    const { storage, dtype, shape, strides, offset } = view;
    if (!users.has(storage.key)) {
      users.set(storage.key, []);
      held += storage.type === 'bytes' ? storage.elements / ELEMENT_BYTES[dtype] : storage.elements;
    }
    users.get(storage.key)!.push([name, view]);
    const elements = shape.reduce((product, side) => product * side, 1);
    const last = elements === 0 ? -1 : offset + shape.reduce((sum, side, axis) => sum + (side - 1) * strides[axis]!, 0);
    const room = storage.type === 'bytes' ? Math.floor(storage.elements / ELEMENT_BYTES[dtype]) : storage.elements;
    if (!(last < room)) refuse(path, `'${name}' reaches beyond its storage`);
    asked += elements;
  }
  if (asked > MAX_SHARING * held) refuse(path, 'its tensors are views of far fewer values than they show');
  const result = new Map<string, HostTensor>();
  for (const sharing of users.values()) {
    const { storage } = sharing[0]![1];
    const { position, size } = locate(storage);
    const bytes = await readAt(path, file, position, size);
    for (const [name, view] of sharing) result.set(name, valuesOf(bytes, view));
  }
  // In the order of the state dict, not of the storages.
  return Object.fromEntries([...views.keys()].map(name => [name, result.get(name)!]));
}

function valuesOf(bytes: Buffer, { dtype, shape, strides, offset }: TensorView): HostTensor {
  const whole = convert(dtype, bytes);
  const elements = shape.reduce((product, side) => product * side, 1);
  const contiguous = strides.every(
    (stride, axis) => shape[axis] === 1 || stride === shape.slice(axis + 1).reduce((a, b) => a * b, 1),
  );
  if (contiguous || elements === 0)
    return { ...whole, shape, data: whole.data.slice(offset, offset + elements) } as HostTensor;
  const data = whole.dtype === 'F32' ? new Float32Array(elements) : new BigInt64Array(elements);
  const index = shape.map(() => 0);
  let from = offset;
  for (let to = 0; to < elements; to++) {
    data[to] = whole.data[from]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      from -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return { dtype: whole.dtype, shape, data } as HostTensor;
}
