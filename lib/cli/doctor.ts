import type { Command } from 'commander';
import { examine, type Finding } from '../engine/build/doctor';
import { ROOT } from '../util/root';

/** `npm run doctor [-- --json]`: what this machine offers, which engine is in use, and what is wrong. Exit 1 if something is. */
export function register(program: Command): void {
  program
    .command('doctor')
    .description('print versions, engine, threads, cache, kernel and tools, and what is wrong with them')
    .option('--json', 'as one JSON object')
    .action(async ({ json }: { json?: boolean }) => {
      const findings = await examine(ROOT);
      const serious = findings.filter(finding => finding.serious).length;
      if (json) console.log(JSON.stringify({ ok: serious === 0, findings }, null, 2));
      else print(findings, serious);
      if (serious > 0) process.exitCode = 1;
    });
}

function print(findings: Finding[], serious: number): void {
  const width = Math.max(...findings.map(({ name }) => name.length));
  for (const { name, value, advice, serious: wrong } of findings) {
    console.log(`${wrong ? '✗' : advice ? '–' : '✓'} ${name.padEnd(width)}  ${value}`);
    if (advice) console.log(`  ${' '.repeat(width)}  → ${advice}`);
  }
  console.log(
    serious === 0 ? '\nNothing is wrong.' : `\n${serious === 1 ? 'One thing is' : `${serious} things are`} wrong (✗).`,
  );
}
