// One message in a while for everyone: a relay filter in Node.
//
//   filters:
//     slowmode:
//       command: [node, ./main.js]
//       unpinned: true
//       mtls: off
//       config: {seconds: 10}
//       exempt: "'moderator' in user.roles"
"use strict";

const { serve, allow, reject } = require("./relay-filter");

const MOST = 100_000; // users that are remembered; the one that was quiet longest is forgotten first
const last = new Map(); // room and user -> when, in ms
let seconds = 10;

serve({
  name: "slowmode",
  actions: ["REJECT"],
  stateless: false, // a message that is judged twice would be its own predecessor
  schema: JSON.stringify({
    type: "object", additionalProperties: false,
    properties: { seconds: { type: "number", exclusiveMinimum: 0, default: 10, description: "Time between two messages of a user in a room." } },
  }),
  configure(config, validateOnly) {
    for (const key of Object.keys(config)) if (key !== "seconds") return [{ path: "/" + key, message: "unknown key" }];
    const s = config.seconds ?? 10;
    if (typeof s !== "number" || !(s > 0)) return [{ path: "/seconds", message: "wants a number above 0" }];
    if (!validateOnly) seconds = s;
    return [];
  },
  judge(m) {
    const key = m.room + "\0" + m.user.id;
    const now = Date.now(), before = last.get(key);
    if (before !== undefined && now - before < seconds * 1000) {
      const left = Math.ceil(seconds - (now - before) / 1000);
      return reject("slow_mode", `Slow mode: wait ${left} more second${left === 1 ? "" : "s"}.`);
    }
    last.delete(key); // to the end of the order
    last.set(key, now);
    if (last.size > MOST) last.delete(last.keys().next().value);
    return allow();
  },
});
