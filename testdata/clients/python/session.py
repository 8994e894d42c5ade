"""The scripted session, with the `websockets` package: session.py URL1 [URL2].

Exits with 0 when every step went as docs/protocol.md says, else tells which did not.
"""
import asyncio
import json
import re
import sys

import websockets


class Client:
    count = 0

    def __init__(self, ws, name):
        self.ws, self.user, self.events, self.news = ws, {"id": name, "name": name.upper()}, [], asyncio.Condition()
        self.reader = asyncio.ensure_future(self.read())

    @classmethod
    async def connect(cls, url, name):
        return cls(await websockets.connect(url, subprotocols=["relay.v1"]), name)

    async def read(self):
        try:
            async for frame in self.ws:
                async with self.news:
                    self.events.append(json.loads(frame))
                    self.news.notify_all()
        except websockets.ConnectionClosed:
            pass

    async def next(self, what, match):
        """The first event, past or coming, that matches."""
        async def find():
            async with self.news:
                while True:
                    for i, event in enumerate(self.events):
                        if match(event):
                            return self.events.pop(i)
                    await self.news.wait()
        try:
            return await asyncio.wait_for(find(), 15)
        except asyncio.TimeoutError:
            raise SystemExit(f"not ok: {self.user['id']}: no {what}; heard {self.events}") from None

    async def event(self, kind):
        return await self.next(kind, lambda e: e["type"] == kind)

    async def request(self, **fields):
        Client.count += 1
        n = Client.count  # ids may be integers too, and come back as such
        await self.ws.send(json.dumps({"id": n, "user": self.user, **fields}))
        return await self.next(f"reply to {fields['type']}", lambda e: e.get("id") == n)


def check(ok, what, event=None):
    if not ok:
        raise SystemExit(f"not ok: {what}: {event}")


async def main(first, second):
    ann, bob = await Client.connect(first, "ann"), await Client.connect(second, "bob")
    welcome = await ann.event("welcome")
    check(welcome["connectionId"] and welcome["heartbeatMs"] > 0, "welcome", welcome)
    check(ann.ws.subprotocol == "relay.v1", "subprotocol", ann.ws.subprotocol)

    created = await ann.request(type="create")
    check(created["type"] == "created" and created["memberCount"] == 1, "created", created)
    room = created["roomId"]
    joined = await bob.request(type="join", roomId=room)
    check(joined["type"] == "joined" and joined["memberCount"] == 2, "joined", joined)
    came = await ann.event("member_joined")
    check(came["user"]["name"] == "BOB" and came["memberCount"] == 2, "member_joined", came)

    text = "grüße, 世界 \U0001F680 \"quoted\" \\ \u2028"
    ack = await bob.request(type="chat", roomId=room, message=text)
    check(ack["type"] == "ack" and re.fullmatch("[0-9a-f]{32}", ack["messageId"]), "ack", ack)
    chat = await ann.event("chat")
    check(chat["message"] == text and chat["user"]["id"] == "bob" and chat["messageId"] == ack["messageId"], "chat", chat)

    value = {"n": [1, 2.5, None, True], "s": {"t": ""}}
    await ann.request(type="chat", roomId=room, message=value)
    chat = await bob.event("chat")
    check(chat["message"] == value and chat["user"]["id"] == "ann", "no echo, any value", chat)

    members = await ann.request(type="members", roomId=room)
    check(sorted(m["id"] for m in members["members"]) == ["ann", "bob"], "members", members)
    await ann.ws.send(json.dumps({"type": "signal", "roomId": room, "data": {"typing": True}}))
    signal = await bob.event("signal")
    check(signal["data"] == {"typing": True} and signal["user"]["id"] == "ann", "signal", signal)

    bad = await ann.request(type="chat", roomId=room)
    check(bad["type"] == "error" and bad["code"] == "bad_request" and "message" in bad["message"], "bad request", bad)
    await ann.ws.send("{")
    bad = await ann.next("error for bad JSON", lambda e: e["type"] == "error" and "id" not in e)
    check(bad["code"] == "bad_request", "not JSON", bad)
    check((await ann.request(type="ping"))["type"] == "pong", "still alive")

    exited = await bob.request(type="exit", roomId=room)
    check(exited["type"] == "exited" and exited["roomId"] == room, "exited", exited)
    check((await ann.event("member_left"))["memberCount"] == 1, "member_left")
    await bob.request(type="join", roomId=room)
    await ann.event("member_joined")
    bob.ws.transport.abort()
    check((await ann.event("member_left"))["user"]["id"] == "bob", "member_left after a sudden end")

    await ann.ws.close(1000)
    check(ann.ws.close_code == 1000, "close echo", ann.ws.close_code)
    print("ok")


asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else sys.argv[1]))
