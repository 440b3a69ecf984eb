import { toSvg } from '../../charts/svg';
import { counted } from '../../util/text';
import { kernelOutput } from './output';

/** One output in several forms, of which a front end shows the best that it can. */
export type Bundle = { 'text/plain': string } & Record<string, unknown>;

/** JupyterLab draws version 5 and shows nothing for 6, without a word; the specifications that we use are the same. */
const VEGA_LITE_MIME = 'application/vnd.vegalite.v5+json';
const VEGA_LITE_SCHEMA = 'https://vega.github.io/schema/vega-lite/v5.json';

/** Throws a TypeError that says what is wrong with a specification of which Vega-Lite only says where it stumbled. */
export async function chart(spec: object): Promise<Bundle> {
  const svg = await toSvg(spec).catch((error: unknown) => {
    const [mark] = unknownMarks(spec);
    if (mark === undefined) throw error;
    throw new TypeError(`The chart has the mark '${mark}': Vega-Lite knows ${MARKS.join(', ')}.`, { cause: error });
  });
  return {
    'text/plain': summary(spec),
    [VEGA_LITE_MIME]: { ...spec, $schema: VEGA_LITE_SCHEMA },
    'image/svg+xml': svg,
  };
}

const MARKS =
  'arc area bar boxplot circle errorband errorbar geoshape image line point rect rule square text tick trail'.split(
    ' ',
  );

/** Also of layers and of charts within the chart. */
function unknownMarks(spec: unknown): string[] {
  if (typeof spec !== 'object' || spec === null) return [];
  const { mark, layer, concat, hconcat, vconcat, spec: inner } = spec as Record<string, unknown>;
  const name = typeof mark === 'object' && mark !== null ? (mark as { type?: unknown }).type : mark;
  const own = name === undefined || MARKS.includes(String(name)) ? [] : [String(name)];
  return [...own, ...[layer, concat, hconcat, vconcat, inner].flat().flatMap(unknownMarks)];
}

/** A chart in words. */
export function summary(spec: object): string {
  const { title, data } = spec as { title?: string | { text?: string }; data?: { values?: unknown[] } };
  const name = typeof title === 'object' ? title.text : title;
  return `[chart${name ? `: ${name}` : ''}${data?.values ? `, ${counted(data.values.length, 'row')}` : ''}]`;
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
