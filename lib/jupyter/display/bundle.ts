import { toSvg } from '../../charts/svg';
import { kernelOutput } from './output';

/** One output in several forms, of which a front end shows the best that it can. */
export type Bundle = { 'text/plain': string } & Record<string, unknown>;

/** JupyterLab draws version 5 and shows nothing for 6, without a word; the specifications that we use are the same. */
const VEGA_LITE_MIME = 'application/vnd.vegalite.v5+json';
const VEGA_LITE_SCHEMA = 'https://vega.github.io/schema/vega-lite/v5.json';

export async function chart(spec: object): Promise<Bundle> {
  return {
    'text/plain': summary(spec),
    [VEGA_LITE_MIME]: { ...spec, $schema: VEGA_LITE_SCHEMA },
    'image/svg+xml': await toSvg(spec),
  };
}

/** A chart in words. */
export function summary(spec: object): string {
  const { title, data } = spec as { title?: string | { text?: string }; data?: { values?: unknown[] } };
  const name = typeof title === 'object' ? title.text : title;
  return `[chart${name ? `: ${name}` : ''}${data?.values ? `, ${data.values.length} rows` : ''}]`;
}

let before: Promise<void> | undefined;

/** Outputs stand in the order in which they were asked for, though a chart takes longer to draw than a table. */
export function send(content: Bundle | Promise<Bundle>, id?: string): Promise<void> {
  const kernel = kernelOutput();
  const tell = (bundle: Bundle): void => (kernel ? kernel.display(bundle, { id }) : console.log(bundle['text/plain']));
  if (!before && !(content instanceof Promise)) {
    tell(content);
    return Promise.resolve();
  }
  const sent = Promise.all([content, before?.catch(() => {})]).then(([bundle]) => tell(bundle));
  const ended = (): void => {
    if (before === sent) before = undefined;
  };
  before = sent;
  sent.then(ended, ended);
  kernel?.settle(sent);
  return sent;
}
