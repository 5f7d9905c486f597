// A device agent in Node.js: one report, tried until it is accepted.
//
//   node agent.mjs nats://localhost:4222 disk-encryption laptop-7 '{"status":"compliant"}'

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { jetstream } from "@nats-io/jetstream";
import { connect, headers, TimeoutError } from "@nats-io/transport-node";

const [url, policy, device, body] = process.argv.slice(2);
if (!body) {
  console.error("usage: node agent.mjs URL POLICY DEVICE BODY");
  process.exit(2);
}
if (![policy, device].every((id) => /^[A-Za-z0-9_-]{1,128}$/.test(id))) {
  console.error("usage: POLICY and DEVICE are each 1 to 128 characters of A-Z a-z 0-9 _ -");
  process.exit(2);
}

// Made once: every further attempt carries the same id and time, so that a copy changes nothing.
const header = headers();
header.set("ce-id", randomUUID());
header.set("ce-time", new Date().toISOString());

const connection = await connect({
  servers: url,
  name: "complianced example agent",
  waitOnFirstConnect: true,
  maxReconnectAttempts: -1,
});
const stream = jetstream(connection);
const ack = await publish();
console.log(`accepted: ${ack.stream} ${ack.seq}`);
await connection.drain();

async function publish() {
  for (let bound = 100; ; bound = Math.min(2 * bound, 5000)) {
    try {
      const ack = await stream.publish(`compliance.status.${policy}.${device}`, body, {
        headers: header,
        timeout: 2000,
        retries: 1,
      });
      if (!ack.duplicate) {
        return ack;
      }
      // Another report with the same Nats-Msg-Id was stored in place of this one. It is not set here.
      throw new Error("the stream took the report for a duplicate");
    } catch (error) {
      if (!goesAway(error)) {
        throw error;
      }
      console.error(`not accepted yet: ${noStream(error) ? "no stream takes the subject; run complianced provision" : error.message}`);
      await sleep(Math.random() * bound); // A random share, so that a fleet does not come back in one moment.
    }
  }
}

// No stream, no answer, a server that is busy (429) or elects a leader (503), an account at its limits (10002).
function goesAway(error) {
  return error instanceof TimeoutError || noStream(error) ||
    [408, 409, 429].includes(error.status) || error.status >= 500 || error.code === 10002;
}

function noStream(error) {
  return Boolean(error.cause?.isNoResponders?.());
}
