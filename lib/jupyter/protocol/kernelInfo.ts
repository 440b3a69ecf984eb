import { version as typescriptVersion } from 'typescript/package.json';
import { version } from '../../../package.json';
import { type ContentOf, PROTOCOL_VERSION } from './message';

/** What front ends learn of the kernel. A CodeMirror mode is a name: strict clients (nteract, Zed) refuse other objects. */
export function kernelInfo(
  language: 'typescript' | 'javascript',
): ContentOf<'kernel_info_reply'> & { debugger: boolean } {
  const isTypeScript = language === 'typescript';
  return {
    status: 'ok',
    protocol_version: PROTOCOL_VERSION,
    implementation: 'edgevit-lab',
    implementation_version: version,
    banner: `EdgeViT Lab ${version}, TypeScript ${typescriptVersion}, Node ${process.versions.node}`,
    debugger: false,
    help_links: [{ text: 'TypeScript', url: 'https://www.typescriptlang.org/docs/' }],
    language_info: {
      name: language,
      version: isTypeScript ? typescriptVersion : process.versions.node,
      mimetype: `text/${language}`,
      file_extension: isTypeScript ? '.ts' : '.js',
      pygments_lexer: language,
      codemirror_mode: language,
    },
  };
}
