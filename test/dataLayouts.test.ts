import { cpSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Dataset } from '../lib/data/dataset';
import { formatDataset, openDataset, parseDataset } from '../lib/data/open';
import { UserError } from '../lib/util/errors';
import { scratch } from './imageFolders';

const folder = scratch();
const TWO = ['train/blue/1.png', 'train/red/1.png', 'test/blue/2.png', 'test/red/2.png'];

/** name → class, by split. */
const content = ({ classes, train, test, val }: Dataset) =>
  Object.fromEntries(
    Object.entries({ train, test, val }).flatMap(([split, of]) =>
      of ? [[split, Object.fromEntries(of.names.map((name, i) => [name, classes[of.labels[i]]]))]] : [],
    ),
  );

describe('a split goes by any of its names:', () => {
  test.each(['valid', 'validation', 'dev', 'Val', 'Test', 'TEST', 'testing'])('%s', async name => {
    await folder.images('Train/a/1.png', 'Train/b/1.png', `${name}/a/2.png`, `${name}/b/2.png`);
    const data = await folder.open();
    expect(content(data)).toEqual({
      train: { 'Train/a/1.png': 'a', 'Train/b/1.png': 'b' },
      test: { [`${name}/a/2.png`]: 'a', [`${name}/b/2.png`]: 'b' },
    });
    const { fingerprint } = data;
    // The same images under the usual names are the same dataset.
    const usual = /^[tT]/.test(name) ? 'test' : 'val';
    const [from, to] = [folder.root, join(folder.root, '../usual')];
    cpSync(join(from, 'Train'), join(to, 'train'), { recursive: true });
    cpSync(join(from, name), join(to, usual), { recursive: true });
    const again = await openDataset(`folder:${to}`, { cacheDir: folder.cacheDir, report() {} });
    expect(again.fingerprint).toBe(fingerprint);
  });

  test('two of which cannot both be meant', async () => {
    await folder.images(...TWO, 'val/red/1.png', 'valid/red/1.png');
    await expect(folder.open()).rejects.toThrow(/'val' and 'valid'/);
  });
});

describe('without a split', () => {
  const names = ['cat', 'dog', 'eel'].flatMap(name => Array.from({ length: 10 }, (_, i) => `${name}/${i}.png`));

  test('each class is divided by the seed and its own names', async () => {
    await folder.images(...names, 'readme.png');
    const data = await folder.open({}, 'split=0.2');
    expect([data.classes, data.train.length, data.test.length]).toEqual([['cat', 'dog', 'eel'], 24, 6]);
    expect(new Set([...data.train.names, ...data.test.names])).toEqual(new Set(names));
    for (const label of [0, 1, 2]) expect([...data.test.labels].filter(each => each === label).length).toBe(2);
    expect((await folder.open({}, 'split=0.2')).test.names).toEqual(data.test.names);
    expect((await folder.open({}, 'split=0.2,seed=1')).test.names).not.toEqual(data.test.names);
    await folder.images('fox/1.png', 'fox/2.png'); // another class changes no other's part
    const more = await folder.open({}, 'split=0.2');
    expect(more.test.names.filter(name => !name.startsWith('fox'))).toEqual(data.test.names);
    expect(more.fingerprint).not.toBe(data.fingerprint);
  });

  test('says what it saw and what would help', async () => {
    await folder.images(...names);
    await expect(folder.open()).rejects.toThrow(/'cat', 'dog', 'eel'.*split=0\.2/);
    await expect(folder.open({}, 'splitt=0.2')).rejects.toThrow(/splitt.*split/);
    await expect(folder.open({}, 'split=1')).rejects.toThrow(UserError);
  });

  test('train alone is divided too, and one that is tested on already is not', async () => {
    await folder.images(...names.map(name => `train/${name}`));
    await expect(folder.open()).rejects.toThrow(/'test' nor 'val'.*split=0\.2/);
    expect((await folder.open({}, 'split=0.3')).test.length).toBe(9);
    await folder.images('test/cat/1.png');
    await expect(folder.open({}, 'split=0.3')).rejects.toThrow(/'test'/);
  });

  test('the dataset within is pointed at', async () => {
    await folder.images(...TWO.map(name => `flowers/${name}`));
    await expect(folder.open()).rejects.toThrow(`did you mean folder:${join(folder.root, 'flowers')}?`);
  });
});

describe('ImageNet as it is distributed', () => {
  const train = ['n01/a.JPEG', 'n01/b.JPEG', 'n02/c.JPEG'].map(name => `train/${name}`);
  const val = ['ILSVRC2012_val_1.JPEG', 'ILSVRC2012_val_2.JPEG', 'ILSVRC2012_val_3.JPEG'];
  const tables: Record<string, string> = {
    'wnids beside names': val.map((name, i) => `${name} n0${(i % 2) + 1}`).join('\n'),
    'a table of Kaggle’s': `ImageId,PredictionString\n${val.map((name, i) => `${name.slice(0, -5)},n0${(i % 2) + 1} 1 2 3 4 n01 5 6 7 8`).join('\n')}`,
    'numbers of sorted folders': val.map((name, i) => `val/${name}\t${i % 2}`).join('\r\n'),
    'labels alone': 'n01\nn02\nn01\n',
    'a semicolon, quotes and a mark of byte order': `\ufefffile;class\n${val.map((name, i) => `"${name}";"n0${(i % 2) + 1}"`).join('\n')}`,
  };

  test.each(Object.keys(tables))('a flat val by %s', async kind => {
    await folder.images(...train, ...val.map(name => `val/${name}`), 'test/x.JPEG');
    folder.put('labels.csv', tables[kind]);
    const data = await folder.open({}, 'labels=labels.csv');
    expect(content(data).test).toEqual(Object.fromEntries(val.map((name, i) => [`val/${name}`, `n0${(i % 2) + 1}`])));
    expect(folder.lines.join('\n')).toMatch(/'test' is ignored.*1 image/);
  });

  test('its table at Kaggle is found where it lies', async () => {
    await folder.images(...train, ...val.map(name => `val/${name}`));
    await expect(folder.open()).rejects.toThrow(/val has no classes.*labels=FILE\.csv/);
    folder.put('LOC_val_solution.csv', tables['a table of Kaggle’s']);
    expect((await folder.open()).test.length).toBe(3);
  });

  test('its own numbers are refused, for they have another order', async () => {
    await folder.images(...train, ...val.map(name => `val/${name}`));
    folder.put('truth.txt', '1\n2\n1\n');
    await expect(folder.open({}, 'labels=truth.txt')).rejects.toThrow(/another order/);
    folder.put('truth.txt', 'n01\nn02\n');
    await expect(folder.open({}, 'labels=truth.txt')).rejects.toThrow(/2 labels.*3 images/);
  });

  test('Tiny ImageNet: images within classes, and a table beside those of val', async () => {
    await folder.images('train/n1/images/n1_0.JPEG', 'train/n2/images/n2_0.JPEG', 'val/images/val_0.JPEG');
    await folder.images('test/images/test_0.JPEG');
    folder.put('train/n1/n1_boxes.txt', 'n1_0.JPEG\t0\t0\t1\t1\n');
    folder.put('val/val_annotations.txt', 'val_0.JPEG\tn2\t0\t32\t44\t62\n');
    expect(content(await folder.open())).toEqual({
      train: { 'train/n1/images/n1_0.JPEG': 'n1', 'train/n2/images/n2_0.JPEG': 'n2' },
      test: { 'val/images/val_0.JPEG': 'n2' },
    });
  });
});

describe('a table of labels', () => {
  test('names images of one folder, with a split of its own or one asked for', async () => {
    await folder.images('images/1.png', 'images/2.png', 'images/3.png', 'images/4.png', 'images/5.png');
    folder.put(
      'all.csv',
      'split,name,label\ntrain,1,a\ntrain,images/2.png,b\nvalid,3.png,a\nvalid,./images/4.png,b\ntrain,9.png,a\n',
    );
    const data = await folder.open({}, 'labels=all.csv');
    expect(content(data)).toEqual({
      train: { 'images/1.png': 'a', 'images/2.png': 'b' },
      test: { 'images/3.png': 'a', 'images/4.png': 'b' },
    });
    const ignored = Object.entries(data.findings!.ignored);
    expect(ignored.find(([reason]) => reason.includes('without a label'))?.[1]).toBe(1);
    expect(ignored.find(([reason]) => reason.includes('without an image'))?.[1]).toBe(1);

    folder.put('plain.csv', 'images/1.png,10\nimages/2.png,9\nimages/3.png,10\nimages/4.png,9\n');
    await expect(folder.open({}, 'labels=plain.csv')).rejects.toThrow(/split=0\.2/);
    const divided = await folder.open({}, 'labels=plain.csv,split=0.5');
    expect([divided.classes, divided.train.length, divided.test.length]).toEqual([['9', '10'], 2, 2]);
  });

  test.each<[string, string, RegExp]>([
    ['is not there', '', /gone\.csv can't be read/],
    ['names no image', 'x.png,a\ny.png,b', /names none of the 2 images/],
    ['has no column of labels', 'filename,width\n1.png,20', /filename, width/],
    ['gives an image two labels', '1.png,a\n1.png,b', /two labels, 'a' and 'b'/],
    ['is none', '\0\0', /no text/],
  ])('that %s is refused', async (_, table, says) => {
    await folder.images('images/1.png', 'images/2.png');
    if (table !== '') folder.put('table.csv', table);
    const opened = () => folder.open({}, `labels=${table === '' ? 'gone.csv' : 'table.csv'},split=0.5`);
    await expect(opened()).rejects.toThrow(UserError);
    await expect(opened()).rejects.toThrow(says);
  });

  test('that could mean two images is refused', async () => {
    await folder.images('a/1.png', 'b/1.png');
    folder.put('t.csv', '1.png,x\n');
    await expect(folder.open({}, 'labels=t.csv,split=0.5')).rejects.toThrow(/several images/);
  });
});

test('limit takes images of every class, by the seed', async () => {
  await folder.images(
    ...['a', 'b'].flatMap(name => Array.from({ length: 6 }, (_, i) => `train/${name}/${i}.png`)),
    'test/a/1.png',
    'test/b/1.png',
  );
  const data = await folder.open({}, 'limit=5');
  expect([[...data.train.labels], data.test.length]).toEqual([[0, 0, 0, 1, 1], 2]);
  expect((await folder.open({}, 'limit=5')).train.names).toEqual(data.train.names);
  await expect(folder.open({}, 'limit=1')).rejects.toThrow(/2 classes/);
});

describe('what systems leave behind', () => {
  test('is ignored and counted', async () => {
    await folder.images(
      ...TWO,
      '__MACOSX/train/red/._1.png',
      'train/@eaDir/1.png',
      'train/red/@eaDir/1.png',
      'train/red/._1.png',
    );
    folder.put('train/red/Thumbs.db', 'x');
    const data = await folder.open();
    expect([data.classes, data.train.length]).toEqual([['blue', 'red'], 2]);
    expect(data.findings!.ignored).toEqual({ 'of the system (such as __MACOSX)': 4, hidden: 1 });
  });

  test('names of one class, composed and decomposed, are one', async () => {
    const [composed, decomposed] = ['caf\u00e9', 'cafe\u0301'];
    await folder.images(`train/${composed}/1.png`, `train/${decomposed}/2.png`, 'train/tea/1.png');
    await folder.images(`test/${decomposed}/3.png`, 'test/tea/2.png');
    const { classes, train, test: tested } = await folder.open();
    expect([classes, [...train.labels], [...tested.labels]]).toEqual([
      [composed, 'tea'],
      [0, 0, 1],
      [0, 1],
    ]);
  });

  test('a link to a folder above ends', async () => {
    await folder.images(...TWO);
    symlinkSync('..', join(folder.root, 'train/red/up'));
    expect((await folder.open()).train.length).toBe(2);
  });
});

test('a class without an image in one split is warned of, one without any is left out', async () => {
  await folder.images(...TWO, 'train/green/1.png');
  mkdirSync(join(folder.root, 'train/empty'));
  const data = await folder.open();
  expect([data.classes, data.test.length]).toEqual([['blue', 'green', 'red'], 2]);
  expect(folder.lines.some(line => /'test'.*'green'/.test(line))).toBe(true);
  rmSync(join(folder.root, 'train/green/1.png'));
  await folder.images('test/green/1.png');
  expect((await folder.open()).classes).toEqual(['blue', 'green', 'red']);
  expect(folder.lines.some(line => /'train'.*'green'/.test(line))).toBe(true);
});

test('a class that differs by capitals is pointed at', async () => {
  await folder.images(...TWO, 'test/Red/1.png');
  await expect(folder.open()).rejects.toThrow(/'Red'.*did you mean 'red'/);
});

test('a dataset is named by its kind, its path and its options', async () => {
  expect(parseDataset('folder:/a:b/c:split=0.2,seed=3')).toEqual({
    kind: 'folder',
    path: '/a:b/c',
    options: { split: '0.2', seed: '3' },
  });
  expect(parseDataset('folder:C:\\a').path).toBe('C:\\a');
  for (const spec of ['folder:x:limit=3', 'petals:classes=3', 'petals', 'folder:/a'])
    expect(formatDataset(parseDataset(spec))).toBe(spec);
  await folder.images(...TWO);
  for (const path of [folder.root, 'no/such/folder'])
    await expect(openDataset(path)).rejects.toThrow(`did you mean folder:${path}?`);
});
