// What a relay filter in Node needs beside its judgement.
//
//   const { serve, allow, reject } = require("./relay-filter");
//   serve({ name: "links", actions: ["REJECT"], judge: (m) => /http/.test(m.text) ? reject("no_links", "No links here.") : allow() });
//
// serve does what docs/plugins.md asks of a process: it checks that relay started
// it, listens on a Unix socket in the folder that relay names, says so in one line
// on standard output, judges batch by batch, answers pings, and ends when relay is
// gone. console.error goes to relay's log.
"use strict";

const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const COOKIE = ["RELAY_FILTER_COOKIE", "3f9d2c5e-relay-filter-v1"];

const proto = grpc.loadPackageDefinition(
  loader.loadSync(path.join(__dirname, "filter.proto"), { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true }),
).relay.filter.v1;

const allow = () => ({ action: "ACTION_ALLOW" });
const modify = (texts) => ({ action: "ACTION_MODIFY", texts });
const reject = (code, reason) => ({ action: "ACTION_REJECT", code, reason });
const drop = (code) => ({ action: "ACTION_DROP", code });
const shadow = (code) => ({ action: "ACTION_SHADOW", code });

// serve runs the plugin until relay has no more use for it. judge(message) returns
// a verdict or a promise of one; message.text is what people read, the rest is
// message Message of filter.proto. configure(config, validateOnly), if given,
// returns problems as { path, message }.
function serve({ name, version = "1", judge, configure, schema = "", events = ["CHAT"], actions = [], sanctions = [], stateless = true }) {
  if (process.env[COOKIE[0]] !== COOKIE[1]) {
    console.error(`${name} is a filter for relay: name it under filters in relay.yaml`);
    process.exit(1);
  }

  const verdict = async (m) => {
    try {
      m.text = m.texts.map((t) => t.text).join("\n");
      return { ...(await judge(m)), call: m.call };
    } catch (e) { // costs this message alone
      console.error(e.stack);
      return { call: m.call, error: String(e.message || e) };
    }
  };
  const batch = async (b) => ({ verdicts: await Promise.all(b.messages.map(verdict)) });

  const service = {
    Describe: (call, done) => done(null, {
      name, version, config_schema: schema, stateless,
      events: events.map((e) => "EVENT_" + e), actions: actions.map((a) => "ACTION_" + a), sanctions: sanctions.map((s) => "KIND_" + s),
    }),
    Configure: (call, done) => {
      try {
        const config = JSON.parse(call.request.config_json || "{}");
        const refuse = () => (Object.keys(config).length ? [{ path: "", message: "this filter takes no configuration" }] : []);
        done(null, { problems: (configure || refuse)(config, call.request.validate_only) || [] });
      } catch (e) {
        done(null, { problems: [{ path: "", message: String(e.message || e) }] });
      }
    },
    CheckBatch: (call, done) => batch(call.request).then((v) => done(null, v), done),
    Session: (call) => {
      let open = 0, ended = false;
      const maybeEnd = () => ended && open === 0 && call.end();
      call.on("data", (f) => {
        if (f.ping) call.write({ pong: { n: f.ping.n } });
        if (!f.batch) return;
        open++;
        batch(f.batch).then((v) => { call.write({ verdicts: v }); open--; maybeEnd(); });
      });
      call.on("end", () => { ended = true; maybeEnd(); }); // drained
      call.on("error", () => {}); // relay is gone; standard input tells too
    },
  };

  const server = new grpc.Server({ "grpc.max_receive_message_length": 64 << 20 });
  server.addService(proto.Filter.service, service);
  const socket = path.join(process.env.PLUGIN_UNIX_SOCKET_DIR, "filter.sock"); // of this process alone; paths of sockets are short
  server.bindAsync("unix:" + socket, grpc.ServerCredentials.createInsecure(), (err) => {
    if (err) {
      console.error(err.message);
      process.exit(1);
    }
    process.stdout.write(`1|1|unix|${socket}|grpc\n`);
  });
  process.stdin.resume();
  process.stdin.on("end", () => process.exit(0)); // relay is gone
}

module.exports = { serve, allow, modify, reject, drop, shadow };
