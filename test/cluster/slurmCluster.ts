import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { execute } from '../../lib/util/processes';
import { daemon, onFreePorts, stop, until } from './daemons';

/** Nodes of the cluster, all on this host. */
export const NODES = ['n1', 'n2'] as const;
type Node = (typeof NODES)[number];

/** A real Slurm on this host: a controller, a daemon for each node, and munge, by which they know each other. Needs root. */
export class SlurmCluster {
  private controller?: ChildProcess;
  private readonly nodes = new Map<Node, ChildProcess>();
  private munged?: ChildProcess;

  private constructor(
    private readonly folder: string,
    private readonly ports: readonly number[],
  ) {}

  static start(folder: string): Promise<SlurmCluster> {
    return onFreePorts(1 + NODES.length, ports => new SlurmCluster(folder, ports));
  }

  private get config(): string {
    return join(this.folder, 'slurm.conf');
  }

  async begin(): Promise<void> {
    const [port, ...nodePorts] = this.ports;
    const { folder, config } = this;
    const host = hostname().split('.')[0];
    for (const name of ['state', ...NODES.map(node => `spool.${node}`)])
      mkdirSync(join(folder, name), { recursive: true });
    const key = join(folder, 'munge.key');
    if (!existsSync(key)) writeFileSync(key, Buffer.alloc(128, folder), { mode: 0o400 });
    const socket = join(folder, 'munge.socket');
    this.munged = daemon('munged', [
      ...['--foreground', '--force', `--key-file=${key}`, `--socket=${socket}`],
      ...['pid', 'log', 'seed'].map(what => `--${what}-file=${join(folder, `munge.${what}`)}`),
    ]);
    await until('munged listens', () => existsSync(socket));
    writeFileSync(
      config,
      `ClusterName=test
SlurmctldHost=${host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=${socket},cred_expire=5
StateSaveLocation=${folder}/state
SlurmdSpoolDir=${folder}/spool.%n
SlurmctldPidFile=${folder}/slurmctld.pid
SlurmdPidFile=${folder}/slurmd.%n.pid
SlurmctldLogFile=${folder}/slurmctld.log
SlurmdLogFile=${folder}/slurmd.%n.log
SlurmdTimeout=10
KillWait=5
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldPort=${port}
${NODES.map((node, i) => `NodeName=${node} NodeHostname=${host} NodeAddr=127.0.0.1 Port=${nodePorts[i]} CPUs=1`).join('\n')}
PartitionName=main Nodes=${NODES.join()} Default=YES MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=${NODES.join()} MaxTime=INFINITE PriorityTier=2 PreemptMode=OFF State=UP
`,
    );
    process.env.SLURM_CONF = config; // read by the commands of Slurm that the sweep calls
    this.beginController();
    for (const node of NODES) this.beginNode(node);
    await until('both nodes are idle', async () => {
      if (this.controller!.exitCode !== null) throw new Error('slurmctld ended.');
      return (await this.states()).join() === 'idle,idle';
    });
  }

  beginController(): void {
    this.controller = daemon('slurmctld', ['-D', '-f', this.config]);
  }

  beginNode(node: Node): void {
    this.nodes.set(node, daemon('slurmd', ['-D', '-f', this.config, '-N', node]));
  }

  async endController(signal: NodeJS.Signals): Promise<void> {
    await stop(this.controller, signal);
  }

  async endNode(node: Node, signal: NodeJS.Signals): Promise<void> {
    await stop(this.nodes.get(node), signal);
  }

  /** What a power cut does: the daemon of a node and all that it started are gone. */
  async loseNode(node: Node): Promise<void> {
    await this.endNode(node, 'SIGKILL');
    for (const pid of readdirSync('/proc')
      .filter(name => /^\d+$/.test(name))
      .map(Number))
      if (isOn(node, this.config, pid))
        for (const each of [parentOf(pid), pid]) if (each !== undefined) killIfThere(each);
  }

  /**
   * What an operator does where Slurm asks for one: a controller that was killed before it wrote down where it put a task launches it twice, drains
   * the node for that, and holds the task.
   */
  async mend(): Promise<void> {
    for (const node of await answers('sinfo', '-hN', '-p', 'main', '-t', 'drain', '-o', '%N'))
      await answers('scontrol', 'update', `nodename=${node}`, 'state=resume');
    const waiting = await answers('squeue', '-hr', '-t', 'PD', '-o', '%F_%K %R');
    for (const held of waiting.filter(line => /held/i.test(line)))
      await answers('scontrol', 'release', held.split(' ')[0]);
  }

  /** What a controller forgets that was killed before it could write down what it was given. */
  forgetJobs(): void {
    const state = join(this.folder, 'state');
    for (const name of readdirSync(state))
      if (name.startsWith('job_state')) rmSync(join(state, name), { recursive: true });
  }

  /** The states of the nodes, by sinfo. */
  states(): Promise<string[]> {
    return answers('sinfo', '-hN', '-p', 'main', '-o', '%T');
  }

  async end(): Promise<void> {
    for (const child of [...this.nodes.values(), this.controller, this.munged]) await stop(child);
  }
}

/** The lines that a program prints; none where it fails, as while the controller is away. */
async function answers(program: string, ...args: string[]): Promise<string[]> {
  const { code, output } = await execute(program, args);
  return code === 0 ? output.split('\n').filter(Boolean) : [];
}

/** Whether a process is of a task on a node of a cluster. */
function isOn(node: Node, config: string, pid: number): boolean {
  try {
    const variables = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
    return variables.includes(`SLURMD_NODENAME=${node}`) && variables.includes(`SLURM_CONF=${config}`);
  } catch {
    return false;
  }
}

/** The process that started one, where that is Slurm's own of a step. */
function parentOf(pid: number): number | undefined {
  try {
    const parent = Number(/^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);
    return readFileSync(`/proc/${parent}/comm`, 'utf8').startsWith('slurmstepd') ? parent : undefined;
  } catch {
    return undefined;
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It is gone with another one.
  }
}
