import type { Redis } from 'ioredis';
import { type Environment, environmentDifferences } from './environment';
import { KEPT_S, PREFIX, queueName } from './queue';

/*
 * A queue's name says that two environments differ, and not in what. Whoever waits for workers is told that: it may be an update of the checkout.
 */

const environmentKey = (queue: string): string => `${PREFIX}:environment:${queue}`;

/** Says in which environment the workers of a queue train. */
export async function describeQueue(redis: Redis, environment: Environment): Promise<void> {
  await redis.set(environmentKey(queueName(environment)), JSON.stringify(environment), 'EX', KEPT_S);
}

/** What a sweep without workers of its environment has to say: lines for a person. */
export async function withoutWorkers(redis: Redis, where: string, environment: Environment): Promise<string[]> {
  return [
    `No worker of this environment is connected to Redis at ${where}: start one by \`npm run worker\`.`,
    ...(await otherWorkers(redis, environment)).map(how => `A worker of another one is: ${how}.`),
  ];
}

/** How the environments of connected workers differ from one, in words. */
async function otherWorkers(redis: Redis, environment: Environment): Promise<string[]> {
  const clients = [...String(await redis.client('LIST')).matchAll(new RegExp(` name=${PREFIX}:([\\w+/=]+)`, 'g'))];
  const queues = new Set(clients.map(([, name]) => Buffer.from(name, 'base64').toString())); // as BullMQ names them
  queues.delete(queueName(environment));
  const known = queues.size > 0 ? await redis.mget([...queues].map(environmentKey)) : [];
  return known.flatMap(json => {
    const differences = json === null ? [] : environmentDifferences(JSON.parse(json) as Environment, environment);
    const deciding = differences.filter(({ field, decides }) => decides && field !== 'threads');
    return deciding.length > 0 ? [deciding.map(({ what, how }) => `${what} ${how}`).join('; ')] : [];
  });
}
