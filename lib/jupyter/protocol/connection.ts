import { z } from 'zod';

export const PORTS = ['shell_port', 'iopub_port', 'stdin_port', 'control_port', 'hb_port'] as const;
type Port = (typeof PORTS)[number];

const port = z.number().int().min(0).max(65_535);
const common = {
  key: z.string().min(1, 'the kernel answers signed messages only'),
  signature_scheme: z.literal('hmac-sha256'),
  shell_port: port,
  iopub_port: port,
  stdin_port: port,
  control_port: port,
  hb_port: port,
};

/**
 * What a connection file says. Only the loopback, and only signed: whoever can send a kernel a message can run code as its user. Port 0 is any
 * that is free; the kernel then writes into the file which. With `ipc`, `ip` is the beginning of the sockets' paths, and who may open
 * their folder can read the outputs; over TCP every user of the machine can.
 */
export const connectionSchema = z
  .discriminatedUnion('transport', [
    z.object({
      transport: z.literal('tcp'),
      ip: z.string().regex(/^(127(\.\d{1,3}){3}|localhost|::1)$/, 'the kernel listens on the loopback only'),
      ...common,
    }),
    z.object({ transport: z.literal('ipc'), ip: z.string().min(1), ...common }),
  ])
  .superRefine((connection, context) => {
    const seen = new Map<number, Port>();
    for (const name of PORTS) {
      const number = connection[name];
      const other = seen.get(number);
      if (other && number !== 0) context.addIssue({ code: 'custom', path: [name], message: `it is ${other} too` });
      seen.set(number, name);
    }
  });
export type Connection = z.infer<typeof connectionSchema>;

export function address({ transport, ip }: Connection, port: number): string {
  if (transport === 'ipc') return `ipc://${ip}-${port}`;
  return `tcp://${ip === '::1' ? '[::1]' : ip}:${port === 0 ? '*' : port}`;
}
