// One JSON value per line: what the test asks comes in, what this program answers goes out.

import { createInterface } from 'node:readline';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function hear() {
  const { value, done } = await lines.next();
  if (done) process.exit(0);
  return JSON.parse(value);
}

function say(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** What this program was started with. */
export const told = JSON.parse(process.argv[2]);

/** Send the person to an address; the address at which their browser came back. */
export async function sendPerson(address) {
  say({ open: String(address) });
  return new URL((await hear()).landed);
}

/** Do what the test asks, one act after the other, until it has no more to ask. */
export async function converse(acts) {
  for (;;) {
    const { act, ...wanted } = await hear();
    try {
      say({ answer: (await acts[act](wanted)) ?? null });
    } catch (problem) {
      const { name, code, error, message, status } = problem;
      say({ problem: { name, code: error ?? code ?? null, message, status: status ?? null } });
    }
  }
}
