import ts from 'typescript';

/** How a name of a cell gets its value. */
export type Kind = 'constant' | 'let' | 'var' | 'function';

/** A cell as the module that the compiler sees. The cell's text stays where it is, so positions are its own. */
export interface CellModule {
  text: string;
  /** The values that it declares; a type has none. */
  names: ReadonlyMap<string, Kind>;
  /** `// @lenient`: what the checker says are warnings. */
  lenient: boolean;
}

/** What a comment before the first statement may ask for. */
const LENIENT = /^\s*(?:\/\*(?:[^*]|\*(?!\/))*\*\/\s*|\/\/[^\n]*\n\s*)*?(?:\/\/|\/\*+)\s*@lenient\b/;

/**
 * The names that it declares are exported behind its text, so that the compiler keeps what only a later cell uses. `export` in the cell
 * itself means nothing, as all is shared: spaces in its place; what is exported from elsewhere is only loaded.
 */
export function cellModule(code: string, javascript: boolean): CellModule {
  const file = ts.createSourceFile(javascript ? 'cell.js' : 'cell.ts', code, ts.ScriptTarget.Latest, true);
  let text = code;
  const blank = (from: number, to: number): void => {
    text = text.slice(0, from) + text.slice(from, to).replace(/[^\n]/g, ' ') + text.slice(to);
  };
  if (code.startsWith('#!')) blank(0, code.search(/\n|$/)); // of a script that was pasted
  const values = new Map<string, Kind>();
  const types = new Set<string>();
  for (const statement of file.statements) {
    if (ts.isExportDeclaration(statement)) {
      const { moduleSpecifier, isTypeOnly } = statement;
      const start = statement.getStart();
      const loads = moduleSpecifier && !isTypeOnly;
      blank(start, loads ? moduleSpecifier.getStart() : statement.end);
      if (loads) text = `${text.slice(0, start)}import${text.slice(start + 'import'.length)}`;
      continue;
    }
    const modifiers = ts.canHaveModifiers(statement) ? (ts.getModifiers(statement) ?? []) : [];
    const keyword = modifiers.find(({ kind }) => kind === ts.SyntaxKind.ExportKeyword);
    if (keyword && !modifiers.some(({ kind }) => kind === ts.SyntaxKind.DefaultKeyword))
      blank(keyword.getStart(), keyword.end);
    if (!modifiers.some(({ kind }) => kind === ts.SyntaxKind.DeclareKeyword)) declared(statement, values, types);
  }
  const exported = [...new Set([...values.keys(), ...types])];
  return {
    text: `${text}\nexport { ${exported.join(', ')} };\n`,
    names: values,
    lenient: LENIENT.test(code),
  };
}

function declared(statement: ts.Statement, values: Map<string, Kind>, types: Set<string>): void {
  const bound = (name: ts.BindingName, kind: Kind): void => {
    if (ts.isIdentifier(name)) {
      if (name.text !== '') values.set(name.text, kind);
    } else for (const element of name.elements) if (ts.isBindingElement(element)) bound(element.name, kind);
  };
  const list = ({ declarations, flags }: ts.VariableDeclarationList): void => {
    const kind =
      flags & ts.NodeFlags.Const || flags & ts.NodeFlags.Using ? 'constant' : flags & ts.NodeFlags.Let ? 'let' : 'var';
    for (const { name } of declarations) bound(name, kind);
  };
  if (ts.isVariableStatement(statement)) list(statement.declarationList);
  else if (ts.isFunctionDeclaration(statement)) {
    if (statement.name) values.set(statement.name.text, 'function');
  } else if (ts.isClassDeclaration(statement) || ts.isEnumDeclaration(statement)) {
    if (statement.name) values.set(statement.name.text, 'constant');
  } else if (ts.isModuleDeclaration(statement)) {
    if (ts.isIdentifier(statement.name) && !(statement.flags & ts.NodeFlags.GlobalAugmentation))
      values.set(statement.name.text, 'constant');
  } else if (ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement))
    types.add(statement.name.text);
  else if (ts.isImportEqualsDeclaration(statement)) values.set(statement.name.text, 'constant');
  else if (ts.isImportDeclaration(statement)) {
    const { name, namedBindings } = statement.importClause ?? {};
    if (name) values.set(name.text, 'constant');
    if (namedBindings && ts.isNamespaceImport(namedBindings)) values.set(namedBindings.name.text, 'constant');
    if (namedBindings && ts.isNamedImports(namedBindings))
      for (const element of namedBindings.elements) values.set(element.name.text, 'constant');
  } else
    ts.forEachChild(statement, function nested(node): void {
      // A `var` in a block or in the head of a loop belongs to the whole cell.
      if (ts.isFunctionLike(node) || ts.isClassLike(node)) return;
      if (ts.isVariableDeclarationList(node) && !(node.flags & ts.NodeFlags.BlockScoped)) list(node);
      ts.forEachChild(node, nested);
    });
}
