"""What a relay filter in Python needs beside its judgement.

    from relay_filter import Verdict, serve

    def judge(message):
        return Verdict.reject("no_links", "No links here.") if "http" in message.text else Verdict.allow()

    serve(judge, name="links", actions=["reject"])

serve() does what docs/plugins.md asks of a process: it checks that relay started
it, listens on a Unix socket in the folder that relay names, says so in one line
on standard output, judges batch by batch, answers pings beside that, and ends
when relay is gone. What is logged goes to standard error, and from there to
relay's log.
"""

import concurrent.futures
import json
import logging
import os
import queue
import sys
import threading

import grpc

import filter_pb2 as pb

COOKIE = ("RELAY_FILTER_COOKIE", "3f9d2c5e-relay-filter-v1")
ACTIONS = {"allow": 0, "modify": 1, "reject": 2, "drop": 3, "shadow": 4}
SANCTIONS = {"warn": 1, "mute": 2, "kick": 3, "ban": 4}
EVENTS = {"chat": 1, "signal": 2, "join": 3}


class Message:
    """What is to be judged: see message Message in filter.proto."""

    def __init__(self, raw):
        self.raw = raw
        self.id, self.room, self.user, self.endpoint = raw.id, raw.room, raw.user, raw.endpoint
        self.texts = [t.text for t in raw.texts]
        self.labels = dict(raw.labels)

    @property
    def text(self):
        """What people read of it: its texts, a line each."""
        return "\n".join(self.texts)

    @property
    def body(self):
        """The message as JSON has it."""
        return json.loads(self.raw.body)


class Verdict:
    """Made by allow, modify, reject, drop and shadow."""

    def __init__(self, action, **fields):
        self.raw = pb.Verdict(action=ACTIONS[action], **fields)

    @classmethod
    def allow(cls):
        return cls("allow")

    @classmethod
    def modify(cls, texts):
        """One text for each of the message's, in their order."""
        return cls("modify", texts=texts)

    @classmethod
    def reject(cls, code, reason):
        return cls("reject", code=code, reason=reason)

    @classmethod
    def drop(cls, code=""):
        return cls("drop", code=code)

    @classmethod
    def shadow(cls, code=""):
        return cls("shadow", code=code)

    def flag(self, label, score=1.0):
        self.raw.flags.add(label=label, score=score)
        return self

    def sanction(self, kind, seconds=0, reason="", everywhere=False):
        self.raw.sanctions.add(kind=SANCTIONS[kind], duration_ms=int(seconds * 1000), reason=reason, scope=int(everywhere))
        return self


class _Servicer:
    def __init__(self, judge, describe, configure):
        self.judge, self.describe, self.configure = judge, describe, configure

    def verdict(self, raw):
        try:
            v = self.judge(Message(raw)).raw
        except Exception as e:  # costs this message alone
            logging.exception("the judge failed")
            v = pb.Verdict(error=f"{type(e).__name__}: {e}")
        v.call = raw.call
        return v

    def Describe(self, request, context):
        return self.describe

    def Configure(self, request, context):
        response = pb.ConfigureResponse()
        try:
            config = json.loads(request.config_json or "{}")
            problems = self.configure(config, request.validate_only)
        except Exception as e:
            problems = [("", str(e))]
        for path, message in problems or []:
            response.problems.add(path=path, message=message)
        return response

    def CheckBatch(self, batch, context):
        return pb.VerdictBatch(verdicts=[self.verdict(m) for m in batch.messages])

    def Session(self, frames, context):
        out, end = queue.SimpleQueue(), object()
        batches = queue.SimpleQueue()

        def read():  # always, so that a ping never waits for a judgement
            try:
                for f in frames:
                    if f.HasField("ping"):
                        out.put(pb.FilterFrame(pong=pb.Pong(n=f.ping.n)))
                    elif f.HasField("batch"):
                        batches.put(f.batch)
            except grpc.RpcError:
                pass  # relay is gone
            batches.put(end)

        def work():
            for b in iter(batches.get, end):
                out.put(pb.FilterFrame(verdicts=self.CheckBatch(b, None)))
            out.put(end)  # drained: relay has closed its side, and everything is answered

        for f in (read, work):
            threading.Thread(target=f, daemon=True).start()
        yield from iter(out.get, end)


def _handlers(s):
    def unary(f, request, response):
        return grpc.unary_unary_rpc_method_handler(f, request.FromString, response.SerializeToString)

    return grpc.method_handlers_generic_handler("relay.filter.v1.Filter", {
        "Describe": unary(s.Describe, pb.DescribeRequest, pb.DescribeResponse),
        "Configure": unary(s.Configure, pb.ConfigureRequest, pb.ConfigureResponse),
        "CheckBatch": unary(s.CheckBatch, pb.Batch, pb.VerdictBatch),
        "Session": grpc.stream_stream_rpc_method_handler(
            s.Session, pb.HostFrame.FromString, pb.FilterFrame.SerializeToString),
    })


def serve(judge, name, version="1", configure=None, schema="", events=("chat",), actions=(), sanctions=(), stateless=True):
    """Runs the plugin until relay has no more use for it.

    judge(Message) returns a Verdict. configure(config, validate_only), if given,
    takes the configuration as a dict, and returns problems as (JSON pointer,
    message) pairs.
    """
    if os.environ.get(COOKIE[0]) != COOKIE[1]:
        sys.exit(f"{name} is a filter for relay: name it under filters in relay.yaml")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")

    def refuse(config, validate_only):
        return [("", "this filter takes no configuration")] if config else []

    describe = pb.DescribeResponse(
        name=name, version=version, config_schema=schema, events=[EVENTS[e] for e in events],
        actions=[ACTIONS[a] for a in actions], sanctions=[SANCTIONS[s] for s in sanctions], stateless=stateless)
    # Two calls beside the session; a session has threads of its own.
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 64 << 20)])
    server.add_generic_rpc_handlers((_handlers(_Servicer(judge, describe, configure or refuse)),))
    path = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], "filter.sock")  # of this process alone; paths of sockets are short
    server.add_insecure_port("unix:" + path)
    server.start()
    print(f"1|1|unix|{path}|grpc", flush=True)
    try:
        sys.stdin.buffer.read()  # ends when relay does
    except KeyboardInterrupt:
        pass
    server.stop(None)
