/** A trial to be trained: `npm run trial` on its file writes the run folder of its name, on this machine or another. */
export interface Task {
  readonly name: string;
  /** Path of the trial file. */
  readonly file: string;
}

/** Whoever runs a sweep hears from here how its tasks stand. What came of one is in its run folder, not in what is told. */
export interface Progress {
  /** May be told more than once. */
  began(task: Task): void;
  /** What the scheduler says of a task, in a word or two: `pending (Resources)`, `on n1`. The step that it is at, where its run folder isn't here. */
  noted(task: Task, note: string, step?: number): void;
  /** The task's process is gone. `obstacle` says why, for a run folder that does not. */
  ended(task: Task, obstacle: string): void;
}

/** Where the trials of a sweep are trained. */
export interface Backend {
  /** In words, for the sweep's first line: `2 at once`. */
  readonly description: string;
  /** How many tasks it trains at the same time; undefined where others decide that. */
  readonly jobs?: number;
  /**
   * Has all tasks trained; those that were handed over before are not handed over twice. Resolves when each of them has ended, or when the signal is
   * aborted and nothing more will be told. Throws UserError or Failure, of one sentence, where they cannot be handed over.
   */
  run(tasks: readonly Task[], progress: Progress, signal: AbortSignal): Promise<void>;
  /** What becomes of tasks under way after the signal, and how to continue: lines for a person. */
  farewell(): string;
  /** What `run` would hand over, where a person can read it. */
  preview?(tasks: readonly Task[]): string;
  /** Ends tasks that were handed over, under way or waiting, and says how many. */
  cancel?(tasks: readonly Task[]): Promise<string>;
}
