import { hollow, variantColors } from '../charts/style';
import { countedAndReported, type Point, paretoFront, reportedTradeoff, tradeoff } from '../charts/tradeoffs';
import type { Estimate } from '../measure/latency';
import { REPORTED } from '../measure/reported';
import type { Tradeoffs } from '../runs/tradeoffs';
import { byVariant, isReproducible, largestBudget, leftOut, type TrialResult } from '../runs/trialResults';
import { mapRecord } from '../util/records';
import { type Table, thousands } from '../util/tables';
import { counted } from '../util/text';
import { notShown } from './experimentSections';
import { interval, type Section, section, setting } from './sections';

const MEASURE = '`npm run experiment -- tradeoffs`';

/** Accuracy against what it costs: ours alone, from the experiment `variants`, with the times that were measured. */
export function tradeoffSection(allRows: readonly TrialResult[], measured: Tradeoffs | undefined): Section {
  const title = 'What accuracy costs';
  const rows = largestBudget(allRows);
  if (rows.length === 0)
    return section('tradeoffs', title, {
      text: [
        'This takes the results of the experiment `variants`, which are missing: its section says how to get them.',
      ],
    });
  const [{ height, width, classes }] = rows;
  // Times belong to the size that they were measured at, and stand beside no accuracy of another.
  const sameSize = measured?.size[0] === height && measured.size[1] === width;
  const times = new Map(sameSize ? measured.models.map(({ model, milliseconds }) => [model, milliseconds]) : []);
  const all = byVariant(rows, variant => variant)
    .sort((a, b) => a.macs - b.macs)
    .map(
      ({ variant, top1, params, macs }): Point => ({
        model: variant,
        top1,
        params,
        macs,
        milliseconds: times.get(variant),
      }),
    );
  const timed = all.filter(({ milliseconds }) => milliseconds !== undefined);
  const machine =
    measured &&
    `${measured.machine.cpu}, ${counted(measured.machine.cores, 'core')}, ${measured.machine.engine}, Node ${measured.machine.node}, one image of ${measured.size.join('×')} px`;
  const text = [
    `${setting(rows)}. The dashed line is the Pareto front: what lies below it is beaten by a network that is at least as good for no more. An interval that reaches over it says that more seeds may move the network across.`,
    measured
      ? `Times: ${machine}. They compare among each other and with none of another machine.${sameSize ? '' : ` They were measured at another size than networks were trained at, so that they have a table of their own, with the counts at that size; ${MEASURE.slice(0, -1)} --size=${height === width ? height : `${height}x${width}`}\` measures at this one.`}${sameSize ? otherHeads(measured, classes) : ''} Energy is left out: it was not measured, and a guess would only repeat the time.`
      : `Times were not measured: ${MEASURE} does.`,
    ...notShown(leftOut(allRows, rows)),
  ];
  const colors = variantColors([...new Set(rows.map(({ variant }) => variant))]); // as in the experiment's own section
  const charts = {
    'tradeoff-macs': tradeoff(all, 'macs', 'Top-1 against MACs', setting(rows), colors),
    'tradeoff-params': tradeoff(all, 'params', 'Top-1 against parameters', setting(rows), colors),
    ...(timed.length > 0 && {
      'tradeoff-latency': tradeoff(timed, 'milliseconds', 'Top-1 against the time of one image', machine, colors),
    }),
  };
  return section('tradeoffs', title, {
    text,
    charts: rows.every(isReproducible) ? charts : mapRecord(charts, hollow),
    captions: {
      'tradeoff-macs': front('MACs', all, ({ macs }) => macs),
      'tradeoff-params': front('parameters', all, ({ params }) => params),
      ...(timed.length > 0 && { 'tradeoff-latency': front('time', timed, ({ milliseconds }) => milliseconds!.value) }),
    },
    tables: [
      costTable(all, `${[height, width].join('×')} px`),
      ...(measured && !sameSize ? [timeTable(measured)] : []),
    ],
  });
}

/** Of times whose networks end in other heads than those that were trained. */
function otherHeads({ models }: Tradeoffs, classes: number): string {
  const others = [...new Set(models.map(model => model.classes))].filter(count => count !== classes);
  return others.length === 0
    ? ''
    : ` They are of networks for ${others.map(thousands).join(' or ')} classes, accuracies and counts beside them of networks for ${classes}.`;
}

function front(by: string, all: readonly Point[], cost: (point: Point) => number): string {
  const unbeaten = paretoFront(all, cost, ({ top1 }) => top1.mean).map(({ model }) => model);
  return `By ${by}, ${unbeaten.length} of ${all.length} ${unbeaten.length === 1 ? 'is' : 'are'} unbeaten: ${unbeaten.join(', ')}.`;
}

/** What networks reached and cost at the size that they were trained at; times where they were measured at it too. */
function costTable(all: readonly Point[], size: string): Table {
  const timed = all.some(({ milliseconds }) => milliseconds);
  return {
    columns: {
      model: 'model',
      params: 'params',
      macs: `MACs, ${size}`,
      ...(timed && { milliseconds: 'ms (95 %)' }),
      top1: 'top-1, %',
      seeds: 'seeds',
    },
    rows: all.map(({ model, params, macs, milliseconds, top1 }) => ({
      model,
      params: thousands(params),
      macs: `${(macs / 1e6).toFixed(1)} M`,
      top1: interval(top1),
      seeds: String(top1.count),
      milliseconds: milliseconds ? time(milliseconds) : '–',
    })),
  };
}

/** What networks cost at the size that times were measured at. */
function timeTable({ models, size }: Tradeoffs): Table {
  const px = `${size.join('×')} px`;
  return {
    columns: {
      model: 'model',
      classes: 'classes',
      params: 'params',
      macs: `MACs, ${px}`,
      milliseconds: `ms, ${px} (95 %)`,
    },
    rows: models.map(({ model, classes, params, macs, milliseconds }) => ({
      model,
      classes: thousands(classes),
      params: thousands(params),
      macs: `${(macs / 1e6).toFixed(1)} M`,
      milliseconds: time(milliseconds),
    })),
  };
}

const time = ({ value, low, high }: Estimate): string => `${value.toFixed(1)} (${low.toFixed(1)}–${high.toFixed(1)})`;

/** What others reported: hollow marks, in charts of their own; and beside what was counted here. */
export function reportedSection(measured: Tradeoffs | undefined): Section {
  const text = [
    'Hollow marks were reported by others: accuracy on ImageNet after hundreds of epochs, times on one phone (Samsung Exynos 2100). None of it was measured here, and it compares with none of the accuracies above.',
    "The paper's own tables could not be read directly: the numbers are second hand, and the table names who reports them.",
    ...(measured ? [] : [`What was counted here is missing: ${MEASURE} counts and measures.`]),
  ];
  const seen = 'reported by others, none measured here';
  return section('reported', 'What others reported', {
    text,
    charts: {
      'reported-macs': reportedTradeoff(REPORTED, 'macs', 'Reported: accuracy by MACs', seen),
      'reported-params': reportedTradeoff(REPORTED, 'params', 'Reported: accuracy by parameters', seen),
      'reported-latency': reportedTradeoff(REPORTED, 'phoneMs', 'Reported: accuracy by time on a phone', seen),
      ...(measured && {
        'counted-macs': countedAndReported(
          measured.models,
          REPORTED,
          'macs',
          'MACs counted here, and reported',
          `${measured.size.join('×')} px, 1000 classes`,
        ),
        'counted-params': countedAndReported(
          measured.models,
          REPORTED,
          'params',
          'Parameters counted here, and reported',
          '1000 classes',
        ),
      }),
    },
    tables: [
      {
        columns: {
          model: 'model, reported',
          top1: 'top-1, ImageNet',
          params: 'params',
          macs: 'MACs (FLOPs)',
          phone: 'phone, ms',
          source: 'reported by',
        },
        rows: REPORTED.map(({ model, top1, params, macs, phoneMs, source }) => ({
          model,
          top1: top1 === undefined ? '–' : `${(100 * top1).toFixed(1)} %`,
          params: params === undefined ? '–' : `${params / 1e6} M`,
          macs: macs === undefined ? '–' : `${macs / 1e6} M`,
          phone: phoneMs === undefined ? '–' : String(phoneMs),
          source,
        })),
      },
    ],
  });
}
