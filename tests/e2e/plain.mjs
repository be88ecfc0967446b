// A job, an ask and discovery with npm's `nats` alone: `NATS_URL=… node plain.mjs` prints one JSON object with what came back.
import { connect, createInbox, JSONCodec } from "nats";

const json = JSONCodec();
const question = { question: "Does plan HMO-483 cover physiotherapy after ACL surgery?" };

const url = new URL(process.env.NATS_URL); // this client takes no password from an address
const nc = await connect({ servers: url.host, user: url.username, pass: url.password });
const js = nc.jetstream();

const ack = await js.publish("jobs.default.rag", json.encode({ items: [question] }));

const results = {};
const consumer = await js.consumers.get("RESULTS", { filterSubjects: [`results.default.${ack.seq}.>`] });
for await (const message of await consumer.consume()) {
  results[message.subject.split(".").pop()] = json.decode(message.data);
  if ("done" in results) break;
}

const reply = await nc.request("ask.default.rag", json.encode(question), { timeout: 30_000 });

const services = [];
const inbox = createInbox();
const subscription = nc.subscribe(inbox, { max: 7 });
nc.publish("$SRV.INFO", undefined, { reply: inbox });
for await (const message of subscription) services.push(json.decode(message.data).name);

console.log(JSON.stringify({ sequence: ack.seq, results, reply: json.decode(reply.data), services: services.sort() }));
await nc.close();
