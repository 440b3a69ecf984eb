import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Dealer, Request } from 'zeromq';
import { address } from '../lib/jupyter/protocol/connection';
import { History, historySchema } from '../lib/jupyter/protocol/history';
import { type Content, type Message, newHeader } from '../lib/jupyter/protocol/message';
import { FrontEnd, startKernel } from './kernelHelper';

// The protocol, as front ends in other languages read it: what runtimed's kernel-testbed and JEP 65 check, and what nobody should send.

let { kernel, run } = {} as Awaited<ReturnType<typeof startKernel>>;
let front: FrontEnd;
let welcome: Message;
beforeAll(async () => {
  ({ kernel, run } = await startKernel());
  front = new FrontEnd(kernel.connection);
  welcome = await front.subscribe();
});
afterAll(async () => {
  front.close();
  await kernel.stop();
});

const types = (messages: Message[]): string[] => messages.map(({ header }) => header.msg_type);
const execute = (code: string, options: Content = {}) => front.ask('execute_request', { code, ...options });

describe('conformance', () => {
  test('the heart beats', async () => {
    const heart = new Request({ linger: 0, receiveTimeout: 10_000 });
    heart.connect(address(kernel.connection, kernel.connection.hb_port));
    await heart.send('ping');
    expect(String((await heart.receive())[0])).toBe('ping');
    heart.close();
  });

  test('whoever subscribes is welcomed, each time', async () => {
    expect(welcome.header.msg_type).toBe('iopub_welcome');
    expect(welcome.content).toEqual({ subscription: '' });
    expect(welcome.parent).toEqual({});
    const second = new FrontEnd(kernel.connection);
    expect((await second.subscribe()).header.msg_type).toBe('iopub_welcome');
    second.close();
  });

  test('kernel_info is what strict decoders take', async () => {
    const { reply } = await front.ask('kernel_info_request');
    const { language_info, ...info } = reply.content as { language_info: Content; protocol_version: string };
    expect(info).toMatchObject({ status: 'ok', implementation: 'edgevit-lab', debugger: false });
    expect(info.protocol_version).toMatch(/^5\.\d+$/);
    for (const field of ['name', 'version', 'mimetype', 'file_extension', 'pygments_lexer', 'codemirror_mode'])
      expect(language_info[field], field).toEqual(expect.any(String));
  });

  test('a cell is busy, tells its input, its output and that it is idle, all with the header of its request', async () => {
    const { reply, published } = await execute("console.log('hello'); console.error('error'); 1 + 1");
    expect(reply.content).toMatchObject({ status: 'ok', execution_count: expect.any(Number) });
    expect(types(published)).toEqual(['status', 'execute_input', 'stream', 'stream', 'execute_result', 'status']);
    expect(published.map(({ content }) => content.execution_state).filter(Boolean)).toEqual(['busy', 'idle']);
    expect(published[4]!.content).toMatchObject({ data: { 'text/plain': '2' }, metadata: {} });
    for (const { parent } of [reply, ...published]) expect(parent).toMatchObject({ session: front.session });
    const next = await execute('const x = 1');
    expect(next.reply.content.execution_count).toBe(Number(reply.content.execution_count) + 1);
  });

  test('a syntax error is an error in the reply and in the outputs', async () => {
    const { reply, published } = await execute('function function');
    expect(reply.content.status).toBe('error');
    expect(types(published)).toContain('error');
  });

  test('display_data, update_display_data and clear_output', async () => {
    const code =
      "import { clearOutput, newDisplay } from 'tslab'; const d = newDisplay(); d.html('<b>1</b>'); d.html('<b>2</b>'); clearOutput(true);";
    const { published } = await execute(code);
    expect(types(published).slice(2, -1)).toEqual(['display_data', 'update_display_data', 'clear_output']);
    const ids = published.slice(2, 4).map(({ content }) => (content.transient as Content).display_id);
    expect(ids[0]).toBe(ids[1]);
    expect(published[4]!.content).toEqual({ wait: true });
  });

  test('completion, inspection, is_complete, comm_info, interrupts', async () => {
    await execute('const testVariableForCompletion = 42');
    const asks: [string, Content, Content, 'shell' | 'control'][] = [
      [
        'complete_request',
        { code: 'testVariableFor', cursor_pos: 15 },
        { status: 'ok', matches: ['testVariableForCompletion'] },
        'shell',
      ],
      [
        'inspect_request',
        { code: 'testVariableForCompletion', cursor_pos: 25 },
        { status: 'ok', found: true },
        'shell',
      ],
      ['is_complete_request', { code: 'const x = 1' }, { status: 'complete' }, 'shell'],
      ['is_complete_request', { code: 'const x = {' }, { status: 'incomplete' }, 'shell'],
      ['comm_info_request', {}, { status: 'ok', comms: {} }, 'shell'],
      ['interrupt_request', {}, { status: 'ok' }, 'control'],
    ];
    for (const [type, content, expected, channel] of asks)
      expect((await front.ask(type, content, channel)).reply.content, type).toMatchObject(expected);
  });

  test('user_expressions are evaluated', async () => {
    const { reply } = await execute('const five = 5', { user_expressions: { ten: '2 * five', none: 'nothingSuch' } });
    expect(reply.content.user_expressions).toMatchObject({
      ten: { status: 'ok', data: { 'text/plain': '10' } },
      none: { status: 'error', ename: 'TypeScriptError' },
    });
  });

  test('a comm that nobody knows is closed', async () => {
    const id = await front.send('comm_open', { comm_id: 'c1', target_name: 'nobody', data: {} });
    const seen: Message[] = [];
    while (seen.at(-1)?.content.execution_state !== 'idle') {
      const message = await front.published();
      if (message.parent.msg_id === id) seen.push(message);
    }
    expect(seen[1]).toMatchObject({ header: { msg_type: 'comm_close' }, content: { comm_id: 'c1' } });
  });

  test('usage is that of the kernel and its machine', async () => {
    const { content } = (await front.ask('usage_request', {}, 'control')).reply;
    expect(content).toMatchObject({ kernel_cpu: expect.any(Number), cpu_count: expect.any(Number) });
    expect(Number(content.kernel_memory)).toBeGreaterThan(1e7);
    expect((content.host_virtual_memory as Content).total).toBeGreaterThan(Number(content.kernel_memory));
  });
});

describe('input', () => {
  /** Runs a cell and types these lines; what it was asked, and its result. */
  async function answering(code: string, ...lines: string[]): Promise<{ asked: unknown[]; published: Message[] }> {
    const ran = execute(code, { allow_stdin: true });
    const asked: unknown[] = [];
    for (const value of lines) {
      const { header, content } = await front.receive('stdin');
      expect(header.msg_type).toBe('input_request');
      asked.push(content.prompt);
      await front.send('input_reply', { value }, 'stdin');
    }
    const { published } = await ran;
    return { asked, published };
  }
  const resultOf = (published: Message[]): unknown =>
    (published.find(({ header }) => header.msg_type === 'execute_result')?.content.data as Content)?.['text/plain'];

  test('is asked for by prompt() and confirm(), which wait', async () => {
    const { asked, published } = await answering(
      "console.log('first'); const typed = [prompt('Name:'), prompt('Or:', 'other'), confirm('Sure?')]; typed",
      'Ada',
      '',
      'y',
    );
    expect(asked).toEqual(['Name: ', 'Or: ', 'Sure? [y/N] ']);
    expect(resultOf(published)).toBe("[ 'Ada', 'other', true ]");
  });

  test('is read line by line from process.stdin', async () => {
    const { asked, published } = await answering(
      "import { createInterface } from 'node:readline/promises'; const rl = createInterface({ input: process.stdin, output: process.stdout }); const names = [await rl.question('one? '), await rl.question('two? ')]; rl.close(); names",
      'Ada',
      'Grace',
    );
    expect(asked).toEqual(['one? ', 'two? ']);
    expect(resultOf(published)).toBe("[ 'Ada', 'Grace' ]");
  });

  test.each([
    ['at once', "prompt('never')"],
    ['from a stream', 'for await (const chunk of process.stdin) void chunk;'],
  ])('is refused %s by a sentence where the front end allows none', async (_name, code) => {
    const { errors } = await run(code, { allow_stdin: false });
    expect(errors[0]).toMatchObject({
      ename: 'StdinNotImplementedError',
      evalue: expect.stringContaining('front end'),
    });
  });

  test('that nobody gives is interrupted', async () => {
    const ran = execute("prompt('Name:')", { allow_stdin: true });
    await front.receive('stdin');
    const [{ reply }] = await Promise.all([ran, front.send('interrupt_request', {}, 'control')]);
    expect(reply.content).toMatchObject({ status: 'error', ename: 'Interrupted' });
    await front.receive('control');
    expect((await run('1')).result).toBe('1');
  });
});

describe('front ends', () => {
  test('that come back under the same identity get their replies', async () => {
    const before = new FrontEnd(kernel.connection, 'a tab');
    await before.send('kernel_info_request');
    await before.receive();
    const after = new FrontEnd(kernel.connection, 'a tab');
    await after.send('kernel_info_request');
    expect((await after.receive()).header.msg_type).toBe('kernel_info_reply');
    before.close();
    after.close();
  });

  test("do not stop each other's cells by an error", async () => {
    const other = new FrontEnd(kernel.connection);
    const failing = execute('await new Promise(done => setTimeout(done, 300)); throw new Error("mine")');
    await new Promise(done => setTimeout(done, 100));
    await other.send('execute_request', { code: '"ran"' });
    await failing;
    expect((await other.receive()).content.status).toBe('ok');
    other.close();
  });

  test('learn that a request is not known', async () => {
    const { reply } = await front.ask('foo_request');
    expect(reply.header.msg_type).toBe('foo_reply');
    expect(reply.content).toMatchObject({ status: 'error', ename: 'UnknownMessage' });
    expect((await front.ask('debug_request', {}, 'control')).reply.content.status).toBe('error');
    const { reply: bad } = await front.ask('execute_request', { nocode: 1 });
    expect(bad.content).toMatchObject({ status: 'error', evalue: expect.stringContaining('code') });
  });
});

describe('what nobody should send', () => {
  const header = JSON.stringify(newHeader('execute_request', 's', 'u'));
  const deep = `{ "code": ${'['.repeat(50_000)}${']'.repeat(50_000)} }`;

  test.each([
    ['a header that is null', ['null', '{}', '{}', '{}']],
    ['a header that is a list', ['[]', '{}', '{}', '{}']],
    ['a content that is null', [header, '{}', '{}', 'null']],
    ['a content that is a text', [header, '{}', '{}', '"text"']],
    ['a content that is no JSON', [header, '{}', '{}', '{']],
    ['a content that is nested 50,000 deep', [header, '{}', '{}', deep]],
  ])('%s gets an error reply', async (_name, parts) => {
    for (const channel of ['shell', 'control'] as const) {
      await front.sendParts(parts, channel);
      expect((await front.receive(channel)).content).toMatchObject({ status: 'error', ename: 'MalformedMessage' });
    }
    expect((await run('1')).result).toBe('1');
  });

  test('bytes without a signature, thousands of them, on every channel', async () => {
    const { connection } = kernel;
    for (const port of [connection.shell_port, connection.control_port, connection.stdin_port]) {
      const socket = new Dealer({ linger: 0 });
      socket.connect(address(connection, port));
      for (let i = 0; i < 2000; i++) await socket.send('x');
      socket.close();
    }
    expect((await run('1')).result).toBe('1');
  });

  test('nothing, by one who subscribes and does not read: outputs are left out, and it is said', async () => {
    const stuck = new FrontEnd(kernel.connection);
    await stuck.subscribe({ isStuck: true });
    await front.send('execute_request', {
      code: 'const line = "x".repeat(60_000); for (let i = 0; i < 1000; i++) console.log(line)',
    });
    const reply = await front.receive();
    expect(reply.content.status).toBe('ok'); // the cell does not wait for the one who is stuck
    stuck.close();
    let told = '';
    while (!told.includes('outputs are missing')) told = String((await front.published()).content.text ?? '');
    expect(told).toMatch(/^\[\d+ outputs are missing/);
  });
});

describe('history', () => {
  const folder = mkdtempSync(join(tmpdir(), 'edgevit-history-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const ask = (history: History, request: Content) => history.find(historySchema.parse(request));

  test('is kept from one session to the next: tail, range, search', () => {
    const [first, second] = [new History(folder), new History(folder)];
    first.add(1, 'const a = 1');
    first.add(2, 'a + 1');
    second.add(1, 'const b = 2');
    second.add(2, 'a + 1');
    second.result(2, '2');
    expect(ask(second, { hist_access_type: 'tail', n: 3 })).toEqual([
      [1, 2, 'a + 1'],
      [2, 1, 'const b = 2'],
      [2, 2, 'a + 1'],
    ]);
    expect(ask(second, { hist_access_type: 'tail', n: 1, output: true })).toEqual([[2, 2, ['a + 1', '2']]]);
    expect(ask(second, { hist_access_type: 'range', session: 1, start: 1, stop: 2 })).toEqual([[1, 1, 'const a = 1']]);
    expect(ask(second, { hist_access_type: 'range', session: 0 })).toHaveLength(2);
    expect(ask(second, { hist_access_type: 'range', session: -1 })).toHaveLength(2);
    expect(ask(second, { hist_access_type: 'search', pattern: 'const*' })).toEqual([
      [1, 1, 'const a = 1'],
      [2, 1, 'const b = 2'],
    ]);
    expect(ask(second, { hist_access_type: 'search', pattern: 'a +*', unique: true })).toEqual([[2, 2, 'a + 1']]);
    expect(ask(new History(folder), { hist_access_type: 'tail', n: 10 })).toHaveLength(4);
  });

  test('of a kernel is asked for by its front end', async () => {
    await execute('"remembered"');
    const { reply } = await front.ask('history_request', { hist_access_type: 'tail', n: 1, output: true });
    expect(reply.content.history).toEqual([[expect.any(Number), expect.any(Number), ['"remembered"', "'remembered'"]]]);
  });
});
