// The scripted session, with the `ws` package: node session.js URL1 URL2.
// Exits with 0 when every step went as docs/protocol.md says, else tells which
// did not.
'use strict';
const WebSocket = require('ws');
const [first, second = first] = process.argv.slice(2);

class Client {
  constructor(url, id) {
    this.user = {id, name: id.toUpperCase()};
    this.events = [];
    this.waiting = [];
    this.ws = new WebSocket(url, ['relay.v1']);
    this.ws.on('message', (data) => {
      const event = JSON.parse(data);
      const i = this.waiting.findIndex((w) => w.match(event));
      if (i >= 0) this.waiting.splice(i, 1)[0].resolve(event);
      else this.events.push(event);
    });
    this.closed = new Promise((resolve) => this.ws.on('close', resolve));
    this.ws.on('error', (err) => fail(`${id}: ${err.message}`));
  }
  // next resolves with the first event, past or coming, that matches.
  next(match, what) {
    const i = this.events.findIndex(match);
    if (i >= 0) return Promise.resolve(this.events.splice(i, 1)[0]);
    return new Promise((resolve) => {
      const timer = setTimeout(() => fail(`${this.user.id}: no ${what}; heard ${JSON.stringify(this.events)}`), 15000);
      this.waiting.push({match, resolve: (e) => { clearTimeout(timer); resolve(e); }});
    });
  }
  event(type, more = () => true) { return this.next((e) => e.type === type && more(e), type); }
  request(r) {
    const id = `${this.user.id}-${++Client.count}`;
    this.ws.send(JSON.stringify({id, user: this.user, ...r}));
    return this.next((e) => e.id === id, `reply to ${r.type}`);
  }
}
Client.count = 0;

function fail(why) { console.error('not ok: ' + why); process.exit(1); }
function check(ok, what, e) { if (!ok) fail(`${what}: ${JSON.stringify(e)}`); }

(async () => {
  const ann = new Client(first, 'ann'), bob = new Client(second, 'bob');
  const welcome = await ann.event('welcome');
  check(welcome.connectionId && welcome.instance && welcome.heartbeatMs > 0, 'welcome', welcome);
  check(ann.ws.protocol === 'relay.v1', 'subprotocol', ann.ws.protocol);
  await bob.event('welcome');

  const created = await ann.request({type: 'create'});
  check(created.type === 'created' && created.roomId && created.memberCount === 1, 'created', created);
  const roomId = created.roomId;
  const joined = await bob.request({type: 'join', roomId});
  check(joined.type === 'joined' && joined.memberCount === 2 && joined.members.length === 2, 'joined', joined);
  const came = await ann.event('member_joined');
  check(came.roomId === roomId && came.user.name === 'BOB' && came.memberCount === 2, 'member_joined', came);

  const text = 'grüße, 世界 \u{1F680} "quoted" \\ \u2028';
  const ack = await bob.request({type: 'chat', roomId, message: text});
  check(ack.type === 'ack' && /^[0-9a-f]{32}$/.test(ack.messageId), 'ack', ack);
  const chat = await ann.event('chat');
  check(chat.message === text && chat.user.id === 'bob' && chat.messageId === ack.messageId, 'chat', chat);

  const value = {n: [1, 2.5, null, true], s: {t: ''}};
  await ann.request({type: 'chat', roomId, message: value});
  const answer = await bob.event('chat');
  check(JSON.stringify(answer.message) === JSON.stringify(value) && answer.user.id === 'ann', 'no echo, any value', answer);

  const members = await ann.request({type: 'members', roomId});
  check(members.memberCount === 2 && members.members.map((m) => m.id).sort().join() === 'ann,bob', 'members', members);
  ann.ws.send(JSON.stringify({type: 'signal', roomId, data: {typing: true}}));
  const signal = await bob.event('signal');
  check(signal.data.typing === true && signal.user.id === 'ann', 'signal', signal);

  const bad = await ann.request({type: 'chat', roomId});
  check(bad.type === 'error' && bad.code === 'bad_request' && bad.message.includes('message'), 'bad request', bad);
  ann.ws.send('{');
  check((await ann.next((e) => e.type === 'error' && !e.id, 'error for bad JSON')).code === 'bad_request', 'not JSON', null);
  check((await ann.request({type: 'ping'})).type === 'pong', 'still alive', null);

  const exited = await bob.request({type: 'exit', roomId});
  check(exited.type === 'exited' && exited.roomId === roomId, 'exited', exited);
  check((await ann.event('member_left')).memberCount === 1, 'member_left', null);
  await bob.request({type: 'join', roomId});
  await ann.event('member_joined');
  bob.ws.terminate();
  check((await ann.event('member_left')).user.id === 'bob', 'member_left after a sudden end', null);

  ann.ws.close(1000);
  check((await ann.closed) === 1000, 'close echo', null);
  console.log('ok');
  process.exit(0);
})().catch((err) => fail(err.stack));
