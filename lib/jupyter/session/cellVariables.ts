import type * as TypeScript from '@tslab/typescript-for-tslab';

/**
 * How cells share variables, in place of tslab's way, which renames whatever has a symbol of an earlier cell (so also the property names of
 * patterns) and copies a `let` where its cell and the later ones should change the same variable.
 */

/** `export` means nothing in a cell, where all is shared, and tslab refuses it: spaces in its place, so that positions stay. */
export function withoutExports(ts: typeof TypeScript, code: string): string {
  if (!code.includes('export')) return code;
  let plain = code;
  for (const statement of ts.createSourceFile('cell.ts', code, ts.ScriptTarget.Latest, true).statements) {
    const modifiers = ts.canHaveModifiers(statement) ? (ts.getModifiers(statement) ?? []) : [];
    if (modifiers.some(({ kind }) => kind === ts.SyntaxKind.DefaultKeyword)) continue;
    const keyword = modifiers.find(({ kind }) => kind === ts.SyntaxKind.ExportKeyword);
    if (keyword)
      plain = `${plain.slice(0, keyword.getStart())}${' '.repeat(keyword.getWidth())}${plain.slice(keyword.end)}`;
  }
  return plain;
}

/**
 * A variable `x` of an earlier cell becomes `__cell__.variables.x`; a `let x` of this cell's own is shared by
 * `__cell__.share("x", () => x, …)` instead of being exported. `file` is a cell's, whose parent holds the declarations of the earlier ones.
 */
export function shareVariables(
  ts: typeof TypeScript,
  checker: TypeScript.TypeChecker,
): TypeScript.TransformerFactory<TypeScript.SourceFile> {
  return context => file => {
    const { factory } = context;
    const earlier = (file.parent as TypeScript.Node as TypeScript.SourceFile & { locals: TypeScript.SymbolTable })
      .locals;
    const member = (name: string): TypeScript.Expression =>
      factory.createPropertyAccessExpression(factory.createIdentifier('__cell__'), name);

    const isEarlier = (symbol: TypeScript.Symbol | undefined): boolean =>
      symbol !== undefined && earlier.get(symbol.escapedName) === symbol;
    const refersToEarlier = (node: TypeScript.Node): node is TypeScript.Identifier =>
      ts.isIdentifier(node) && isEarlier(checker.getSymbolAtLocation(node));
    const reference = (name: TypeScript.Identifier): TypeScript.Expression =>
      ts.setTextRange(factory.createPropertyAccessExpression(member('variables'), name.text), name);
    /** A call of `x` is one of a function, not of a method. */
    const callee = (node: TypeScript.Expression): TypeScript.Expression =>
      refersToEarlier(node)
        ? ts.setTextRange(
            factory.createParenthesizedExpression(
              factory.createComma(factory.createNumericLiteral(0), reference(node)),
            ),
            node,
          )
        : (ts.visitNode(node, visit) as TypeScript.Expression);

    const visit = (node: TypeScript.Node): TypeScript.Node => {
      if (ts.isTypeNode(node) && !ts.isExpressionWithTypeArguments(node)) return node;
      if (refersToEarlier(node)) return reference(node);
      if (ts.isShorthandPropertyAssignment(node)) {
        const { name, objectAssignmentInitializer: fallback } = node;
        if (!isEarlier(checker.getShorthandAssignmentValueSymbol(node))) return ts.visitEachChild(node, visit, context);
        return factory.createPropertyAssignment(
          name.text,
          fallback
            ? factory.createAssignment(reference(name), ts.visitNode(fallback, visit) as TypeScript.Expression)
            : reference(name),
        );
      }
      if (ts.isCallExpression(node)) {
        const { typeArguments, arguments: values } = node;
        return factory.updateCallExpression(
          node,
          callee(node.expression),
          typeArguments,
          ts.visitNodes(values, visit, ts.isExpression),
        );
      }
      if (ts.isTaggedTemplateExpression(node)) {
        return factory.updateTaggedTemplateExpression(
          node,
          callee(node.tag),
          node.typeArguments,
          ts.visitNode(node.template, visit) as TypeScript.TemplateLiteral,
        );
      }
      return ts.visitEachChild(node, visit, context);
    };

    const changeable = new Set(file.statements.flatMap(statement => changeableNames(ts, statement)));
    const share = (name: string): TypeScript.Statement => {
      const value = factory.createIdentifier('__value__');
      const arrow = (
        parameters: TypeScript.ParameterDeclaration[],
        body: TypeScript.Expression,
      ): TypeScript.Expression =>
        factory.createArrowFunction(undefined, undefined, parameters, undefined, undefined, body);
      const [get, set] = [
        arrow([], factory.createIdentifier(name)),
        arrow(
          [factory.createParameterDeclaration(undefined, undefined, value)],
          factory.createAssignment(factory.createIdentifier(name), value),
        ),
      ];
      return factory.createExpressionStatement(
        factory.createCallExpression(member('share'), undefined, [factory.createStringLiteral(name), get, set]),
      );
    };
    const statements = file.statements.map(statement => {
      if (!ts.isExportDeclaration(statement) || !statement.exportClause || !ts.isNamedExports(statement.exportClause))
        return visit(statement) as TypeScript.Statement;
      const others = statement.exportClause.elements.filter(
        ({ propertyName, name }) => propertyName || !changeable.has(name.text),
      );
      return factory.updateExportDeclaration(
        statement,
        statement.modifiers,
        false,
        factory.updateNamedExports(statement.exportClause, others),
        statement.moduleSpecifier,
        statement.assertClause,
      );
    });
    return factory.updateSourceFile(file, [...[...changeable].map(share), ...statements]);
  };
}

/** The names that a statement declares by `let` or `var`. */
function changeableNames(ts: typeof TypeScript, statement: TypeScript.Statement): string[] {
  if (!ts.isVariableStatement(statement) || statement.declarationList.flags & ts.NodeFlags.Const) return [];
  if (statement.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.DeclareKeyword)) return [];
  const names = ({ name }: TypeScript.VariableDeclaration | TypeScript.BindingElement): string[] =>
    ts.isIdentifier(name)
      ? [name.text]
      : (name.elements as readonly TypeScript.ArrayBindingElement[]).flatMap(element =>
          ts.isBindingElement(element) ? names(element) : [],
        );
  return statement.declarationList.declarations.flatMap(names);
}
