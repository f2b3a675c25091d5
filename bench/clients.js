// The clients of bench/clients.py in one process, by Alibaba's SDK for Node: the default chain, a signed call each.
//
//     node clients.js MODULES ENDPOINT CLIENTS PACE_S
//
// MODULES has node_modules with @alicloud/credentials, @alicloud/sts20150401 and @alicloud/openapi-client. Reports in the
// JSON lines that bench/clients.py says of itself; ends at SIGTERM.
'use strict';
const { createRequire } = require('module');
const [modules, endpoint, count, pace] = process.argv.slice(2);
const load = createRequire(`${modules}/`);
const Credential = load('@alicloud/credentials').default;
const Sts = load('@alicloud/sts20150401').default;
const { Config } = load('@alicloud/openapi-client');

const total = { sent: 0, refused: 0, unanswered: 0, longest_wait_s: 0, longest_call_s: 0 };
const say = (event, more) => process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);
let ending = false;
const ended = new Promise((done) => process.on('SIGTERM', () => { ending = true; done(); }));
const sleep = (seconds) => Promise.race([ended, new Promise((done) => setTimeout(done, seconds * 1000))]);

async function client(number) {
  const credential = new Credential();
  const sts = new Sts(new Config({ credential, endpoint, protocol: 'https', readTimeout: 60000, connectTimeout: 60000 }));
  let signing = '';
  while (!ending) {
    await sleep(Number(pace) * (0.5 + Math.random()));
    if (ending) break;
    const began = performance.now();
    let keyId = '';
    total.sent += 1;
    try {
      keyId = (await credential.getCredential()).accessKeyId;
      total.longest_wait_s = Math.max(total.longest_wait_s, (performance.now() - began) / 1000);
      await sts.getCallerIdentity();
      total.longest_call_s = Math.max(total.longest_call_s, (performance.now() - began) / 1000);
    } catch (error) {
      const code = String(error.code || error.name);
      const kind = /InvalidAccessKeyId|Signature|Forbidden|SecurityToken/.test(code) ? 'refused' : 'unanswered';
      total[kind] += 1;
      say(kind, { client: number, access_key_id: keyId, error: code, text: String(error.message).slice(0, 200) });
      continue;
    }
    if (keyId !== signing) {
      signing = keyId;
      say('signing', { client: number, access_key_id: keyId });
    }
  }
}

Promise.all(Array.from({ length: Number(count) }, (_, number) => client(number))).then(() => {
  say('ended', total);
  process.exit(0); // timers of clients that were asleep
});
