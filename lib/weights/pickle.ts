import { UserError } from '../util/errors';

/*
 * A restricted unpickler: the opcodes of Python's pickle protocols 0 to 5 (Lib/pickletools.py), and no code behind them. Whatever a
 * pickle asks to be called or built is looked up in a table that the caller gives; what is not in it is refused by name.
 */

/** A tuple, told from a list because persistent ids and arguments are tuples. */
export class Tuple extends Array<unknown> {}

/** A dict: any hashable key, in the order of insertion. */
export type Dict = Map<unknown, unknown>;

/** What a global stands for: `call` gives what REDUCE or NEWOBJ with these arguments would make. */
export interface Global {
  readonly name: string;
  call(args: readonly unknown[]): unknown;
  /** What BUILD does with an object's state; left out, the state is ignored. */
  build?(target: unknown, state: unknown): void;
}

export interface PickleOptions {
  /** What messages call the file. */
  name: string;
  /** The global `module name`, or undefined where it isn't allowed. */
  global(module: string, name: string): Global | undefined;
  /** The object behind a persistent id. */
  persistent(id: unknown): unknown;
}

/** Objects that a global's `call` made, so that BUILD finds how to give them their state. */
const MAKERS = new WeakMap<object, Global>();

/** Longer ones are no number of a checkpoint, and cost time quadratic in their length. */
const MAX_LONG_BYTES = 256;
/** Entries that may be copied for each byte of the pickle: real ones need less than one. */
const COPIES_PER_BYTE = 4;

/**
 * Reads one pickle from `bytes` at `start`; `end` is where the next thing begins. Throws UserError for what is cut short, no pickle,
 * or refused. Takes time and memory in proportion to the bytes, whatever they claim.
 */
export function unpickle(bytes: Uint8Array, options: PickleOptions, start = 0): { value: unknown; end: number } {
  const reader = new Unpickler(bytes, options, start);
  const value = reader.run();
  return { value, end: reader.at };
}

class Unpickler {
  at: number;
  private readonly view: DataView;
  private stack: unknown[] = [];
  private readonly marks: unknown[][] = [];
  private readonly memo = new Map<number, unknown>();
  private copied = 0;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly options: PickleOptions,
    start: number,
  ) {
    this.at = start;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  run(): unknown {
    for (;;) {
      const opcode = String.fromCharCode(this.unsigned(1));
      if (opcode === '.') return this.pop();
      const step = OPCODES[opcode];
      if (!step) this.refuse(`it has the unknown opcode 0x${opcode.charCodeAt(0).toString(16)} at byte ${this.at - 1}`);
      step(this);
    }
  }

  refuse(why: string): never {
    throw new UserError(`'${this.options.name}' cannot be read as a pickle: ${why}.`);
  }

  // Bytes

  take(length: number): Uint8Array {
    if (!(length >= 0 && this.at + length <= this.bytes.length)) this.refuse(`it is cut short at byte ${this.at}`);
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  /** Little-endian, of 1, 2, 4 or 8 bytes. */
  unsigned(width: 1 | 2 | 4 | 8): number {
    const at = this.at;
    this.take(width);
    if (width === 1) return this.bytes[at]!;
    if (width === 2) return this.view.getUint16(at, true);
    return width === 4 ? this.view.getUint32(at, true) : Number(this.view.getBigUint64(at, true));
  }

  int32(): number {
    this.take(4);
    return this.view.getInt32(this.at - 4, true);
  }

  float64(): number {
    this.take(8);
    return this.view.getFloat64(this.at - 8, false);
  }

  text(length: number): string {
    return Buffer.from(this.take(length)).toString('utf8');
  }

  line(): string {
    const end = this.bytes.indexOf(10, this.at);
    if (end < 0) this.refuse(`it is cut short at byte ${this.at}`);
    const text = Buffer.from(this.bytes.subarray(this.at, end)).toString('latin1');
    this.at = end + 1;
    return text;
  }

  /** A two's-complement integer of so many bytes. */
  long(length: number): number | bigint {
    if (length > MAX_LONG_BYTES)
      this.refuse(`it has an integer of ${length} bytes, ${MAX_LONG_BYTES} at most are read`);
    const digits = this.take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(digits[i]!);
    if (length > 0 && digits[length - 1]! >= 128) value -= 1n << BigInt(8 * length);
    return narrowed(value);
  }

  decimal(text: string): number | bigint {
    if (!/^[+-]?\d{1,600}$/.test(text)) this.refuse(`'${text.slice(0, 20)}' is no integer`);
    return narrowed(BigInt(text));
  }

  // The stack

  push(value: unknown): void {
    this.stack.push(value);
  }

  pop(): unknown {
    if (this.stack.length === 0) this.refuse('it takes a value where there is none');
    return this.stack.pop();
  }

  top(): unknown {
    if (this.stack.length === 0) this.refuse('it takes a value where there is none');
    return this.stack[this.stack.length - 1];
  }

  mark(): void {
    this.marks.push(this.stack);
    this.stack = [];
  }

  toMark(): unknown[] {
    const outer = this.marks.pop();
    if (!outer) this.refuse('it ends a list that was not begun');
    const items = this.stack;
    this.stack = outer;
    return items;
  }

  popMarkOrValue(): void {
    if (this.stack.length > 0) this.stack.pop();
    else this.toMark();
  }

  remember(index: number): void {
    this.memo.set(index, this.top());
  }

  rememberNext(): void {
    this.memo.set(this.memo.size, this.top());
  }

  recall(index: number): void {
    if (!this.memo.has(index)) this.refuse(`it recalls ${index}, which it never stored`);
    this.push(this.memo.get(index));
  }

  // Containers

  append(values: readonly unknown[]): void {
    const list = this.top();
    if (Array.isArray(list) && !(list instanceof Tuple)) for (const value of values) list.push(value);
    else if (list instanceof Set) for (const value of values) list.add(value);
    else this.refuse('it appends to what is no list');
  }

  setItems(values: readonly unknown[]): void {
    const dict = this.top();
    if (!(dict instanceof Map) || values.length % 2 === 1) this.refuse('it sets items of what is no dict');
    for (let i = 0; i < values.length; i += 2) (dict as Dict).set(values[i], values[i + 1]);
  }

  // What would be code

  lookUp(module: unknown, name: unknown): void {
    if (typeof module !== 'string' || typeof name !== 'string') this.refuse('it names a global by what is no text');
    const found = this.options.global(module as string, name as string);
    if (!found)
      throw new UserError(
        `'${this.options.name}' asks for ${printable(`${module}.${name}`)}, which is refused: only tensors, plain containers and numbers are read from a pickle, and nothing in it is executed.`,
      );
    this.push(found);
  }

  reduce(args: unknown): void {
    const callee = this.pop() as Global;
    if (typeof callee?.call !== 'function' || typeof callee.name !== 'string' || !Array.isArray(args))
      this.refuse('it calls what is no global');
    for (const arg of args as unknown[])
      this.copied += Array.isArray(arg) ? arg.length : arg instanceof Map || arg instanceof Set ? arg.size : 1;
    if (this.copied > COPIES_PER_BYTE * this.bytes.length)
      this.refuse('it builds far more than a file of its size can hold');
    const made = callee.call(args as unknown[]);
    if (typeof made === 'object' && made !== null) MAKERS.set(made, callee);
    this.push(made);
  }

  build(): void {
    const state = this.pop();
    const target = this.top();
    if (typeof target === 'object' && target !== null) MAKERS.get(target)?.build?.(target, state);
  }

  persistent(id: unknown): void {
    this.push(this.options.persistent(id));
  }
}

/** Terminal control characters of a hostile name never reach a terminal. */
const printable = (text: string): string => text.slice(0, 80).replace(/[^\x20-\x7e]/g, '?');

function narrowed(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** A Python string literal of protocol 0, as `repr` writes it. */
function unquoted(reader: Unpickler, text: string): string {
  const quoted = /^(["'])(.*)\1$/s.exec(text);
  if (!quoted) reader.refuse('it has a string without quotes');
  return quoted[2]!.replace(/\\(x[\da-f]{2}|.)/gi, (_, code: string) => {
    if (code.length > 1) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
    return { n: '\n', r: '\r', t: '\t' }[code] ?? code;
  });
}

const tuple = (items: readonly unknown[]): Tuple => {
  const made = new Tuple();
  for (const item of items) made.push(item);
  return made;
};

const dict = (reader: Unpickler, items: readonly unknown[]): void => {
  reader.push(new Map());
  reader.setItems(items);
};

const call = (reader: Unpickler, args: unknown[]): void => {
  reader.reduce(tuple(args));
};

const refusedExtension = (reader: Unpickler): never => reader.refuse('it uses the extension registry of copyreg');

const OPCODES: Record<string, (reader: Unpickler) => void> = {
  // Protocol and framing: a frame's length is a hint, since its opcodes are read one by one anyway.
  '\x80': reader => {
    const protocol = reader.unsigned(1);
    if (protocol > 5) reader.refuse(`its protocol is ${protocol}, 5 is the newest that is known`);
  },
  '\x95': reader => void reader.unsigned(8),
  // Values
  N: reader => reader.push(null),
  '\x88': reader => reader.push(true),
  '\x89': reader => reader.push(false),
  I: reader => {
    const text = reader.line();
    reader.push(text === '01' ? true : text === '00' ? false : reader.decimal(text.trim()));
  },
  J: reader => reader.push(reader.int32()),
  K: reader => reader.push(reader.unsigned(1)),
  M: reader => reader.push(reader.unsigned(2)),
  L: reader => reader.push(reader.decimal(reader.line().trim().replace(/L$/, ''))),
  '\x8a': reader => reader.push(reader.long(reader.unsigned(1))),
  '\x8b': reader => reader.push(reader.long(reader.int32())),
  F: reader => reader.push(Number(reader.line())),
  G: reader => reader.push(reader.float64()),
  S: reader => reader.push(unquoted(reader, reader.line())),
  T: reader => reader.push(reader.text(reader.int32())),
  U: reader => reader.push(reader.text(reader.unsigned(1))),
  V: reader =>
    reader.push(
      reader.line().replace(/\\u([\da-f]{4})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    ),
  X: reader => reader.push(reader.text(reader.unsigned(4))),
  '\x8c': reader => reader.push(reader.text(reader.unsigned(1))),
  '\x8d': reader => reader.push(reader.text(reader.unsigned(8))),
  B: reader => reader.push(reader.take(reader.unsigned(4))),
  C: reader => reader.push(reader.take(reader.unsigned(1))),
  '\x8e': reader => reader.push(reader.take(reader.unsigned(8))),
  '\x96': reader => reader.push(reader.take(reader.unsigned(8))),
  // Containers
  '(': reader => reader.mark(),
  '0': reader => reader.popMarkOrValue(),
  '1': reader => void reader.toMark(),
  '2': reader => reader.push(reader.top()),
  ']': reader => reader.push([]),
  l: reader => reader.push(reader.toMark()),
  a: reader => {
    const value = reader.pop();
    reader.append([value]);
  },
  e: reader => {
    const values = reader.toMark();
    reader.append(values);
  },
  ')': reader => reader.push(new Tuple()),
  t: reader => reader.push(tuple(reader.toMark())),
  '\x85': reader => reader.push(tuple([reader.pop()])),
  '\x86': reader => {
    const second = reader.pop();
    reader.push(tuple([reader.pop(), second]));
  },
  '\x87': reader => {
    const third = reader.pop();
    const second = reader.pop();
    reader.push(tuple([reader.pop(), second, third]));
  },
  '}': reader => reader.push(new Map()),
  d: reader => dict(reader, reader.toMark()),
  s: reader => {
    const value = reader.pop();
    const key = reader.pop();
    reader.setItems([key, value]);
  },
  u: reader => {
    const values = reader.toMark();
    reader.setItems(values);
  },
  '\x8f': reader => reader.push(new Set()),
  '\x90': reader => {
    const values = reader.toMark();
    reader.append(values);
  },
  '\x91': reader => reader.push(new Set(reader.toMark())),
  // Memo
  p: reader => reader.remember(Number(reader.line())),
  q: reader => reader.remember(reader.unsigned(1)),
  r: reader => reader.remember(reader.unsigned(4)),
  '\x94': reader => reader.rememberNext(),
  g: reader => reader.recall(Number(reader.line())),
  h: reader => reader.recall(reader.unsigned(1)),
  j: reader => reader.recall(reader.unsigned(4)),
  // What Python would look up, call or give a state
  c: reader => {
    const module = reader.line();
    reader.lookUp(module, reader.line());
  },
  '\x93': reader => {
    const name = reader.pop();
    reader.lookUp(reader.pop(), name);
  },
  R: reader => reader.reduce(reader.pop()),
  '\x81': reader => reader.reduce(reader.pop()),
  '\x92': reader => {
    const named = reader.pop();
    if (!(named instanceof Map) || named.size > 0) reader.refuse('it makes an object by named arguments');
    reader.reduce(reader.pop());
  },
  o: reader => {
    const [callee, ...args] = reader.toMark();
    reader.push(callee);
    call(reader, args);
  },
  i: reader => {
    const module = reader.line();
    const name = reader.line();
    const args = reader.toMark();
    reader.lookUp(module, name);
    call(reader, args);
  },
  b: reader => reader.build(),
  P: reader => reader.persistent(reader.line()),
  Q: reader => reader.persistent(reader.pop()),
  '\x82': refusedExtension,
  '\x83': refusedExtension,
  '\x84': refusedExtension,
};
