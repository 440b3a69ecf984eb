/** tfjs's names of TensorFlow's types; it has no others. */
const DTYPES: Record<string, string> = {
  float: 'float32',
  int32: 'int32',
  bool: 'bool',
  complex64: 'complex64',
  string: 'string',
};

const named = (types: Iterable<string>): string[] =>
  [...new Set([...types].map(type => DTYPES[type.toLowerCase()]))].filter(type => type !== undefined);

/** The type that TensorFlow refuses, and what it takes in its place, by an op's definition or by its kernels. */
function typesOf(message: string): { refused: string; allowed: string[] } | undefined {
  const defined = /Value for attr '\w+' of (\w+) is not in the list of allowed values: ([^\n;]*)/.exec(message);
  if (defined) return { refused: defined[1]!, allowed: named(defined[2]!.split(/[,\s]+/)) };
  if (!/Could not find device for node|No registered '\w+' OpKernel/.test(message)) return undefined;
  const requested = /(\w+)=DT_(\w+)/.exec(message);
  if (!requested) return undefined;
  const kernels = message.matchAll(new RegExp(`device='CPU'[^\\n]*\\b${requested[1]} in \\[DT_(\\w+)\\]`, 'g'));
  return { refused: requested[2]!.toLowerCase(), allowed: named([...kernels].map(([, type]) => type!)) };
}

/** What TensorFlow says of an op that it does not have for a dtype, in one sentence; undefined for what else it says. */
export function dtypeRefusal(op: string, message: string, line: string): string | undefined {
  const types = typesOf(message);
  if (!types) return undefined;
  const { refused, allowed } = types;
  const example = allowed.includes('float32') ? 'float32' : allowed[0];
  const way = example ? `: it takes ${allowed.join(', ')}. Cast before, tf.cast(x, '${example}').` : '.';
  return `TensorFlow has no ${op} of ${DTYPES[refused] ?? refused}${line}${way}`;
}
