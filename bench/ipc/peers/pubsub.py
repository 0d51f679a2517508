"""
Redis pub/sub with redis-py, hiredis and msgspec. ``receive``, ``send`` (a publish per message), ``receive-many``,
``send-many`` (a publish per batch).
"""

from __future__ import annotations

import sys

import msgspec
import redis

from bench.common.processes import say
from bench.ipc.message import AT, BATCH, BUILD, FIRST, TEXT, Line, Tally, cpu

CHANNEL = "lines"
encoder = msgspec.json.Encoder()


def receive(path: str, warm: int, count: int, many: bool) -> None:
    decoder = msgspec.json.Decoder(Line)
    tally = Tally(warm, count)
    subscription = redis.Redis(unix_socket_path=path).pubsub()
    subscription.subscribe(CHANNEL)
    subscription.get_message(timeout=10)
    say(ready=True)
    for message in subscription.listen():
        data = message["data"]
        for line in decoder.decode_lines(data) if many else [decoder.decode(data)]:
            tally.sum += line.seq
            tally.left -= 1
            if not tally.left:
                tally.reached()


def send(path: str, count: int, many: bool) -> None:
    client = redis.Redis(unix_socket_path=path)
    begun = cpu()
    if many:
        for first in range(FIRST, FIRST + count, BATCH):
            until = min(first + BATCH, FIRST + count)
            client.publish(CHANNEL, encoder.encode_lines([Line(BUILD, seq, AT, TEXT) for seq in range(first, until)]))
    else:
        for seq in range(FIRST, FIRST + count):
            client.publish(CHANNEL, encoder.encode(Line(BUILD, seq, AT, TEXT)))
    say(sent=count, cpu=cpu() - begun)


def main(role: str, path: str, *arguments: str) -> None:
    what, _, many = role.partition("-")
    if what == "receive":
        warm, count = map(int, arguments)
        receive(path, warm, count, many == "many")
    else:
        send(path, int(arguments[0]), many == "many")


if __name__ == "__main__":
    main(*sys.argv[1:])
