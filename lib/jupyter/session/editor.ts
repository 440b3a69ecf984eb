import { readdirSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import ts from 'typescript';

export interface Completions {
  /** The span that a candidate replaces, in UTF-16 units. */
  start: number;
  end: number;
  candidates: string[];
}

export type Completeness = { status: 'complete' | 'invalid' } | { status: 'incomplete'; indent: string };

const NOTHING: Completions = { start: 0, end: 0, candidates: [] };
const UNTERMINATED_STRING = 1002;
const UNTERMINATED_TEMPLATE = 1160;
/** What the service says of a name that nothing declares. */
const UNKNOWN = 'any';

/** What fits at `position`: names, members, modules and, in a text, the files of `folder`. Those that begin as what is there come first. */
export function completions(
  service: ts.LanguageService,
  file: string,
  code: string,
  position: number,
  folder: string,
): Completions {
  const info = service.getCompletionsAtPosition(file, position, {});
  if (!info || info.entries.length === 0)
    return fileNames(code, position, folder) ?? { ...NOTHING, start: position, end: position };
  const span = info.entries[0].replacementSpan ?? info.optionalReplacementSpan ?? wordAt(code, position);
  const typed = code.slice(span.start, position);
  const lower = typed.toLowerCase();
  const rank = ({ name }: ts.CompletionEntry): number => {
    if (name.startsWith(typed)) return 0;
    if (name.toLowerCase().startsWith(lower)) return 1;
    return name.toLowerCase().includes(lower) ? 2 : 3;
  };
  const entries = info.entries
    .map((entry, index) => ({ name: entry.name, sort: `${rank(entry)}${entry.sortText}`, rank: rank(entry), index }))
    .filter(entry => entry.rank < 3)
    .sort((a, b) => (a.sort === b.sort ? a.index - b.index : a.sort < b.sort ? -1 : 1));
  return { start: span.start, end: span.start + span.length, candidates: entries.map(({ name }) => name) };
}

function wordAt(code: string, position: number): ts.TextSpan {
  const before = /[\w$\u0080-\uffff]*$/.exec(code.slice(0, position))![0].length;
  const after = /^[\w$\u0080-\uffff]*/.exec(code.slice(position))![0].length;
  return { start: position - before, length: before + after };
}

/** Inside a string: the files that its text begins to name. */
function fileNames(code: string, position: number, folder: string): Completions | undefined {
  const [, quoted] = /["'`]([^"'`\n]*)$/.exec(code.slice(0, position)) ?? [];
  if (quoted === undefined) return undefined;
  const name = quoted.endsWith('/') || quoted === '' ? '' : basename(quoted);
  const within = resolve(folder, quoted.endsWith('/') ? quoted : dirname(quoted));
  try {
    const candidates = readdirSync(within, { withFileTypes: true })
      .filter(entry => entry.name.startsWith(name) && (name !== '' || !entry.name.startsWith('.')))
      .map(entry => (entry.isDirectory() ? `${entry.name}/` : entry.name))
      .sort();
    return { start: position - name.length, end: position, candidates };
  } catch {
    return undefined;
  }
}

/** Type and documentation of the name at `position`, or the signature of the call around it. */
export function describeAt(service: ts.LanguageService, file: string, position: number): string | undefined {
  const info = service.getQuickInfoAtPosition(file, position);
  if (info && text(info.displayParts) !== UNKNOWN)
    return [text(info.displayParts), documented(info.documentation, info.tags)].filter(Boolean).join('\n\n');
  const help = service.getSignatureHelpItems(file, position, undefined);
  if (!help) return undefined;
  const item = help.items[help.selectedItemIndex];
  const parameters = item.parameters.map(parameter => text(parameter.displayParts));
  const signature = [
    text(item.prefixDisplayParts),
    parameters.join(text(item.separatorDisplayParts)),
    text(item.suffixDisplayParts),
  ].join('');
  const parameter = item.parameters[help.argumentIndex];
  const about = parameter && text(parameter.documentation);
  const others = help.items.length > 1 ? `and ${help.items.length - 1} more` : '';
  return [signature, about && `${parameter.name}: ${about}`, documented(item.documentation, item.tags), others]
    .filter(Boolean)
    .join('\n\n');
}

function text(parts: readonly ts.SymbolDisplayPart[] | undefined): string {
  return ts.displayPartsToString(parts === undefined ? undefined : [...parts]);
}

function documented(documentation: ts.SymbolDisplayPart[] | undefined, tags: ts.JSDocTagInfo[] | undefined): string {
  const lines = (tags ?? []).filter(tag => tag.text).map(({ name, text: parts }) => `@${name} ${text(parts)}`);
  return [text(documentation), ...lines].filter(Boolean).join('\n');
}

/** Whether code that a console is given is to be run, or continues in the next line. */
export function completeness(code: string, javascript: boolean): Completeness {
  const { diagnostics = [] } = ts.transpileModule(code, {
    fileName: javascript ? 'cell.js' : 'cell.ts',
    reportDiagnostics: true,
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
  });
  if (diagnostics.length === 0) return { status: 'complete' };
  const [first] = [...diagnostics].sort((a, b) => (a.start ?? 0) - (b.start ?? 0));
  const open = first.code === UNTERMINATED_TEMPLATE;
  if (first.code === UNTERMINATED_STRING) return { status: 'invalid' }; // no further line can end it
  if (!open && (first.start ?? 0) < code.trimEnd().length) return { status: 'invalid' };
  if (!open && /\n[^\S\n]*\n[^\S\n]*$/.test(code)) return { status: 'invalid' }; // two empty lines: whoever types them is done
  return { status: 'incomplete', indent: open ? '' : indentAfter(code) };
}

/** The indent of the next line. */
function indentAfter(code: string): string {
  const line = code.split('\n').at(-1)!;
  const indent = /^\s*/.exec(line)![0];
  if (/^\s*[}\]]/.test(line)) return indent.replace(/(?: {2}|\s)$/, '');
  return /[{([][^\])}"'`]*$/.test(line) ? `${indent}  ` : indent;
}
