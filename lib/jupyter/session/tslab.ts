import { randomBytes } from 'node:crypto';
import type * as Tslab from 'tslab';
import { version } from 'tslab/package.json';
import ts from 'typescript';

type Display = Tslab.Display & { js(code: string): void };
type Show = (data: Record<string, unknown>, options: { id?: string; update?: boolean }) => void;

/** What `import … from 'tslab'` gives to cells: its interface, on this kernel's outputs and compiler. */
export function tslabModule(show: Show, clearOutput: (wait?: boolean) => void): object {
  const display = (id?: string): Display => {
    let update = false;
    const raw = (type: string, content: string | Uint8Array): void => {
      show({ [type]: content }, { id, update });
      update = id !== undefined;
    };
    const as =
      (type: string) =>
      (content: string | Uint8Array): void =>
        raw(type, content);
    return {
      javascript: as('text/javascript'),
      js: as('text/javascript'),
      html: as('text/html'),
      markdown: as('text/markdown'),
      latex: as('text/latex'),
      svg: as('image/svg+xml'),
      png: as('image/png'),
      jpeg: as('image/jpeg'),
      gif: as('image/gif'),
      pdf: as('application/pdf'),
      text: as('text/plain'),
      raw,
    };
  };
  return {
    __esModule: true,
    display: display(),
    clearOutput,
    newDisplay: () => display(randomBytes(8).toString('hex')),
    versions: { tslab: version, typescript: ts.version, node: process.version },
  };
}
