import type * as TypeScript from 'typescript';
import { oneOf, UserError } from '../../util/errors';
import type { CodeCell, Notebook } from './notebook';

const TAG = 'parameters';
const INJECTED = 'injected-parameters';

interface Parameter {
  keyword: 'const' | 'let' | 'var';
  /** The type's text, colon included; empty where there is none. */
  annotation: string;
  kind: 'number' | 'string' | 'boolean' | 'list' | 'record' | 'expression';
  /** The values of a type that is a union of literals. */
  allowed?: readonly unknown[];
}

/** Without the cell of values that an earlier run has put in. */
export function withoutParameters(notebook: Notebook): Notebook {
  return { ...notebook, cells: notebook.cells.filter(cell => !cell.metadata.tags?.includes(INJECTED)) };
}

/**
 * Values for the variables that the cell tagged `parameters` declares, as a cell of their own behind it (as papermill does; one
 * of an earlier run is removed). A value has the type of the declared one, and its annotation is kept, so that the
 * kernel checks the rest. Throws a UserError that names the parameter.
 */
export function withParameters(notebook: Notebook, values: ReadonlyMap<string, string>, name: string): Notebook {
  const { cells } = withoutParameters(notebook);
  if (values.size === 0) return { ...notebook, cells };
  const at = cells.findIndex(cell => cell.cell_type === 'code' && cell.metadata.tags?.includes(TAG));
  if (at < 0) throw new UserError(`${name} takes no parameters: it has no cell tagged '${TAG}'.`);
  const declared = declarations(cells[at].source);
  const source = [...values]
    .map(([key, text]) => {
      const parameter = declared.get(key);
      if (!parameter)
        throw new UserError(
          `${name} has no parameter '${key}'; it has ${declared.size > 0 ? oneOf([...declared.keys()]) : 'none'}.`,
        );
      return `${parameter.keyword} ${key}${parameter.annotation} = ${literal(key, parameter, text)};`;
    })
    .join('\n');
  const injected: CodeCell = {
    cell_type: 'code',
    metadata: { tags: [INJECTED] },
    source,
    outputs: [],
    execution_count: null,
    ...(notebook.nbformat_minor >= 5 ? { id: INJECTED } : {}),
  };
  return { ...notebook, cells: [...cells.slice(0, at + 1), injected, ...cells.slice(at + 1)] };
}

/** The variables at the top level of a cell. */
function declarations(source: string): Map<string, Parameter> {
  const ts: typeof TypeScript = require('typescript'); // a third of a second that most runs don't need
  const file = ts.createSourceFile('parameters.ts', source, ts.ScriptTarget.Latest, true);
  const parameters = new Map<string, Parameter>();
  for (const statement of file.statements) {
    if (!ts.isVariableStatement(statement)) continue;
    const { flags, declarations } = statement.declarationList;
    const keyword = flags & ts.NodeFlags.Const ? 'const' : flags & ts.NodeFlags.Let ? 'let' : 'var';
    for (const { name, type, initializer } of declarations) {
      parameters.set(name.getText(file), {
        keyword,
        annotation: type ? `: ${type.getText(file)}` : '',
        kind: kindOf(ts, initializer),
        allowed: type && literals(ts, type),
      });
    }
  }
  return parameters;
}

function kindOf(ts: typeof TypeScript, value: TypeScript.Expression | undefined): Parameter['kind'] {
  if (!value) return 'expression';
  if (ts.isAsExpression(value) || ts.isSatisfiesExpression(value) || ts.isParenthesizedExpression(value))
    return kindOf(ts, value.expression);
  if (ts.isNumericLiteral(value) || (ts.isPrefixUnaryExpression(value) && ts.isNumericLiteral(value.operand)))
    return 'number';
  if (ts.isStringLiteralLike(value)) return 'string';
  if (value.kind === ts.SyntaxKind.TrueKeyword || value.kind === ts.SyntaxKind.FalseKeyword) return 'boolean';
  if (ts.isArrayLiteralExpression(value)) return 'list';
  return ts.isObjectLiteralExpression(value) ? 'record' : 'expression';
}

function literals(ts: typeof TypeScript, type: TypeScript.TypeNode): unknown[] | undefined {
  if (!ts.isUnionTypeNode(type)) return undefined;
  const values = type.types.map(({ literal }: TypeScript.TypeNode & { literal?: TypeScript.Node }) =>
    literal && ts.isStringLiteral(literal)
      ? literal.text
      : literal && ts.isNumericLiteral(literal)
        ? Number(literal.text)
        : undefined,
  );
  return values.includes(undefined) ? undefined : values;
}

/** The text of a command line as TypeScript. */
function literal(key: string, { kind, allowed }: Parameter, text: string): string {
  const wrong = (wanted: string): never => {
    throw new UserError(`Parameter ${key} is '${text}': it must be ${wanted}.`);
  };
  const value = parse(kind, text);
  if (kind === 'expression') wrong('left as it is, since its value is computed in the notebook');
  if (value === undefined)
    wrong(
      { number: 'a number', string: 'a text', boolean: 'true or false', list: 'a JSON list', record: 'a JSON object' }[
        kind as 'number'
      ],
    );
  if (allowed && !allowed.includes(value)) wrong(oneOf(allowed.map(String)));
  return JSON.stringify(value);
}

function parse(kind: Parameter['kind'], text: string): unknown {
  if (kind === 'string') return text;
  if (kind === 'number') return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : undefined;
  if (kind === 'boolean') return { true: true, false: false }[text];
  try {
    const value: unknown = JSON.parse(text);
    const fits =
      kind === 'list' ? Array.isArray(value) : typeof value === 'object' && value !== null && !Array.isArray(value);
    return fits ? value : undefined;
  } catch {
    return undefined;
  }
}
