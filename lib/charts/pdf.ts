import { readFileSync } from 'node:fs';
import { fontFiles } from './png';

/** Draws an SVG as a PDF of one page of its size, with its text as text: equal drawings give equal bytes. */
export async function toPdf(svg: string): Promise<Buffer> {
  const [{ default: PDFDocument }, { default: drawSvg }] = await Promise.all([
    import('pdfkit'),
    import('svg-to-pdfkit'),
  ]); // only where PDFs are asked for
  const [, width, height] = /<svg[^>]* width="([\d.]+)" height="([\d.]+)"/.exec(svg)!;
  const document = new PDFDocument({
    size: [Number(width), Number(height)],
    margin: 0,
    info: { CreationDate: EPOCH, ModDate: EPOCH },
  });
  const chunks: Buffer[] = [];
  document.on('data', (chunk: Buffer) => chunks.push(chunk));
  const ended = new Promise(resolve => document.once('end', resolve));
  const [regular, bold] = fontFiles().map(path => readFileSync(path));
  document.registerFont('regular', regular).registerFont('bold', bold);
  const solid = svg.replace(/ stroke-dasharray="[\d.]+,0"/g, ''); // a dash without a gap, which PDF does not know
  drawSvg(document, solid, 0, 0, { assumePt: true, fontCallback: (_family, isBold) => (isBold ? 'bold' : 'regular') });
  document.end();
  await ended;
  return Buffer.concat(chunks);
}

/** Of a drawing that depends on nothing but what it shows. */
const EPOCH = new Date(0);
