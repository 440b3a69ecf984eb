import ts from 'typescript';
import type { Kind } from './cellModule';

/** What a cell's code reaches of the kernel: see `CellScope` in session.ts. */
const SCOPE = '__cell__';

/**
 * Before TypeScript's own transformations: a variable `x` of an earlier cell becomes `__cell__.variables.x`, which all cells share; a
 * `let x` of this cell's own is shared by `__cell__.share("x", () => x, …)`, as it may change; the last expression is the cell's result.
 * `cells` tells which files are cells.
 */
export function shareVariables(
  checker: ts.TypeChecker,
  isCell: (file: ts.SourceFile) => boolean,
  names: ReadonlyMap<string, Kind>,
): ts.TransformerFactory<ts.SourceFile> {
  return context => file => {
    const { factory } = context;
    const member = (name: string): ts.Expression =>
      factory.createPropertyAccessExpression(factory.createIdentifier(SCOPE), name);
    const call = (name: string, ...values: ts.Expression[]): ts.Expression =>
      factory.createCallExpression(member(name), undefined, values);

    const isEarlier = (symbol: ts.Symbol | undefined): boolean =>
      symbol?.declarations?.some(declaration => {
        const from = declaration.getSourceFile();
        return from !== file && isCell(from) && !isAmbient(declaration) && isTopLevel(symbol, from);
      }) ?? false;
    const refersToEarlier = (node: ts.Node): node is ts.Identifier =>
      ts.isIdentifier(node) && isEarlier(checker.getSymbolAtLocation(node));
    const reference = (name: ts.Identifier): ts.Expression =>
      ts.setTextRange(factory.createPropertyAccessExpression(member('variables'), name.text), name);
    /** A call of `x` is one of a function, not of a method. */
    const callee = (node: ts.Expression): ts.Expression =>
      refersToEarlier(node)
        ? ts.setTextRange(
            factory.createParenthesizedExpression(
              factory.createComma(factory.createNumericLiteral(0), reference(node)),
            ),
            node,
          )
        : (ts.visitNode(node, visit) as ts.Expression);

    const visit = (node: ts.Node): ts.Node => {
      if (ts.isTypeNode(node) && !ts.isExpressionWithTypeArguments(node)) return node;
      if (ts.isIdentifier(node))
        return isNameOnly(node) || !isEarlier(checker.getSymbolAtLocation(node)) ? node : reference(node);
      if (ts.isShorthandPropertyAssignment(node)) {
        const { name, objectAssignmentInitializer: fallback } = node;
        if (!isEarlier(checker.getShorthandAssignmentValueSymbol(node))) return ts.visitEachChild(node, visit, context);
        return factory.createPropertyAssignment(
          name.text,
          fallback
            ? factory.createAssignment(reference(name), ts.visitNode(fallback, visit) as ts.Expression)
            : reference(name),
        );
      }
      if (ts.isCallExpression(node)) {
        const { typeArguments, arguments: values } = node;
        if (node.expression.kind === ts.SyntaxKind.ImportKeyword)
          return ts.setTextRange(call('import', ...ts.visitNodes(values, visit, ts.isExpression)), node);
        const visited = ts.visitNodes(values, visit, ts.isExpression);
        return ts.isCallChain(node)
          ? factory.updateCallChain(node, callee(node.expression), node.questionDotToken, typeArguments, visited)
          : factory.updateCallExpression(node, callee(node.expression), typeArguments, visited);
      }
      if (ts.isTaggedTemplateExpression(node)) {
        return factory.updateTaggedTemplateExpression(
          node,
          callee(node.tag),
          node.typeArguments,
          ts.visitNode(node.template, visit) as ts.TemplateLiteral,
        );
      }
      if (ts.isMetaProperty(node) && node.keywordToken === ts.SyntaxKind.ImportKeyword)
        return ts.setTextRange(member('meta'), node);
      return ts.visitEachChild(node, visit, context);
    };

    const share = (name: string): ts.Statement => {
      const value = factory.createIdentifier('__value__');
      const arrow = (parameters: ts.ParameterDeclaration[], body: ts.Expression): ts.Expression =>
        factory.createArrowFunction(undefined, undefined, parameters, undefined, undefined, body);
      const [get, set] = [
        arrow([], factory.createIdentifier(name)),
        arrow(
          [factory.createParameterDeclaration(undefined, undefined, value)],
          factory.createAssignment(factory.createIdentifier(name), value),
        ),
      ];
      return factory.createExpressionStatement(call('share', factory.createStringLiteral(name), get, set));
    };
    const isChangeable = (name: string): boolean => names.get(name) === 'let' || names.get(name) === 'var';
    const last = lastExpression(file);
    const statements = file.statements.map(statement => {
      if (ts.isExportDeclaration(statement) && statement.exportClause && ts.isNamedExports(statement.exportClause))
        return factory.updateExportDeclaration(
          statement,
          statement.modifiers,
          false,
          factory.updateNamedExports(
            statement.exportClause,
            statement.exportClause.elements.filter(({ name }) => !isChangeable(name.text)),
          ),
          statement.moduleSpecifier,
          statement.attributes,
        );
      const visited = ts.visitNode(statement, visit) as ts.Statement;
      if (statement !== last || !ts.isExpressionStatement(visited)) return visited;
      return factory.updateExpressionStatement(visited, ts.setTextRange(call('result', visited.expression), statement));
    });
    return factory.updateSourceFile(file, [...[...names.keys()].filter(isChangeable).map(share), ...statements]);
  };
}

/** What is declared to exist elsewhere is no variable of the cell's. */
function isAmbient(declaration: ts.Declaration): boolean {
  return (ts.getCombinedModifierFlags(declaration) & ts.ModifierFlags.Ambient) !== 0;
}

function isTopLevel(symbol: ts.Symbol, file: ts.SourceFile): boolean {
  return (file as ts.SourceFile & { locals?: ts.SymbolTable }).locals?.get(symbol.escapedName) === symbol;
}

/** Names of properties, whose symbols belong to no cell, and labels need no look at the checker. */
function isNameOnly(node: ts.Identifier): boolean {
  const { parent } = node;
  return parent !== undefined && ts.isPropertyAccessExpression(parent) && parent.name === node;
}

/** The statement whose value is the cell's result; types may stand behind it. */
function lastExpression(file: ts.SourceFile): ts.Statement | undefined {
  const last = [...file.statements]
    .reverse()
    .find(
      statement =>
        !ts.isExportDeclaration(statement) &&
        !ts.isInterfaceDeclaration(statement) &&
        !ts.isTypeAliasDeclaration(statement) &&
        !ts.isEmptyStatement(statement),
    );
  return last && ts.isExpressionStatement(last) ? last : undefined;
}

/** `await x` → `await __cell__.wait(x)`, `for await (… of xs)` → `… of __cell__.each(xs)`: an interrupt can end them. */
export const interruptible: ts.TransformerFactory<ts.SourceFile> = context => {
  const { factory } = context;
  const through = (method: string, value: ts.Expression): ts.Expression =>
    factory.createCallExpression(
      factory.createPropertyAccessExpression(factory.createIdentifier(SCOPE), method),
      undefined,
      [value],
    );
  const visit = (node: ts.Node): ts.Node => {
    const visited = ts.visitEachChild(node, visit, context);
    if (ts.isAwaitExpression(visited))
      return factory.updateAwaitExpression(visited, through('wait', visited.expression));
    if (ts.isForOfStatement(visited) && visited.awaitModifier) {
      return factory.updateForOfStatement(
        visited,
        visited.awaitModifier,
        visited.initializer,
        through('each', visited.expression),
        visited.statement,
      );
    }
    return visited;
  };
  return file => ts.visitEachChild(file, visit, context);
};

/** Without `exports.a = exports.b = void 0`: a variable is set when its statement has run, and until then it is not `undefined` but unknown. */
export const withoutEarlyExports: ts.TransformerFactory<ts.SourceFile> = ({ factory }) => {
  const setsNothing = (value: ts.Expression): boolean =>
    ts.isBinaryExpression(value) && value.operatorToken.kind === ts.SyntaxKind.EqualsToken && isExport(value.left)
      ? setsNothing(value.right) || ts.isVoidExpression(value.right)
      : false;
  const isExport = (target: ts.Expression): boolean =>
    (ts.isPropertyAccessExpression(target) || ts.isElementAccessExpression(target)) &&
    ts.isIdentifier(target.expression) &&
    target.expression.text === 'exports';
  return file =>
    factory.updateSourceFile(
      file,
      file.statements.filter(
        statement => !(statement.pos < 0 && ts.isExpressionStatement(statement) && setsNothing(statement.expression)),
      ),
    );
};

/** What TypeScript adds for imports and exports goes by `__cell__.require` and `__cell__.exports`: the cell may have its own of these names. */
export const throughScope: ts.TransformerFactory<ts.SourceFile> = context => {
  const { factory } = context;
  const visit = (node: ts.Node): ts.Node => {
    if (ts.isPropertyAccessExpression(node))
      return factory.updatePropertyAccessExpression(
        node,
        ts.visitNode(node.expression, visit) as ts.Expression,
        node.name,
      );
    if (ts.isIdentifier(node) && node.pos < 0 && (node.text === 'require' || node.text === 'exports'))
      return factory.createPropertyAccessExpression(factory.createIdentifier(SCOPE), node.text);
    return ts.visitEachChild(node, visit, context);
  };
  return file => ts.visitEachChild(file, visit, context);
};
