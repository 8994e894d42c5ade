#!/usr/bin/env python3
"""Lets no link pass but to hosts that are allowed: a relay filter in Python.

    filters:
      links:
        command: [python3, ./main.py]
        unpinned: true
        mtls: off
        config: {allow: [example.com]}
"""

import re

from relay_filter import Verdict, serve

LINK = re.compile(r"\b(?:https?://|www\.)([^\s/?#:]+)", re.IGNORECASE)
SCHEMA = """{"type": "object", "additionalProperties": false, "properties": {
  "allow": {"type": "array", "items": {"type": "string"}, "description": "Hosts that may be linked to, their subdomains included."}}}"""

allowed = set()


def configure(config, validate_only):
    hosts, problems = config.get("allow", []), []
    problems += [(f"/{key}", "unknown key") for key in config if key != "allow"]
    if not isinstance(hosts, list):
        return problems + [("/allow", "wants a list of host names")]
    for i, host in enumerate(hosts):
        if not isinstance(host, str) or not host or "/" in host:
            problems.append((f"/allow/{i}", "is not a host name such as example.com"))
    if not problems and not validate_only:
        allowed.clear()
        allowed.update(h.lower() for h in hosts)
    return problems


def may(host):
    parts = host.lower().rstrip(".").split(".")
    return any(".".join(parts[i:]) in allowed for i in range(len(parts)))


def judge(message):
    for host in LINK.findall(message.text):
        if not may(host):
            return Verdict.reject("link", f"Links to {host} are not allowed here.").flag("link")
    return Verdict.allow()


if __name__ == "__main__":
    serve(judge, name="links", configure=configure, schema=SCHEMA, actions=["reject"])
