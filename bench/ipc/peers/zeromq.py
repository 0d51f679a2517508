"""
pyzmq with msgspec. ``receive``, ``send`` (PUSH/PULL, a send per message), ``receive-many``, ``send-many`` (a send per
batch), ``answer``, ``trip`` (REQ/REP).
"""

from __future__ import annotations

import sys
import time

import msgspec
import zmq

from bench.common.processes import say
from bench.ipc.message import AT, BATCH, BUILD, FIRST, TEXT, Echo, Line, Tally, cpu
from bench.ipc.peers import latencies

encoder = msgspec.json.Encoder()


def receive(path: str, warm: int, count: int) -> None:
    decode = msgspec.json.Decoder(Line).decode
    tally = Tally(warm, count)
    socket = zmq.Context().socket(zmq.PULL)
    socket.bind(f"ipc://{path}")
    say(ready=True)
    for _ in range(warm + count):
        tally.sum += decode(socket.recv()).seq
        tally.left -= 1
        if not tally.left:
            tally.reached()


def receive_many(path: str, warm: int, count: int) -> None:
    decode_lines = msgspec.json.Decoder(Line).decode_lines
    tally = Tally(warm, count)
    socket = zmq.Context().socket(zmq.PULL)
    socket.bind(f"ipc://{path}")
    say(ready=True)
    received = 0
    while received < warm + count:
        for line in decode_lines(socket.recv()):
            tally.sum += line.seq
            tally.left -= 1
            received += 1
            if not tally.left:
                tally.reached()


def send(path: str, count: int) -> None:
    socket = zmq.Context().socket(zmq.PUSH)
    socket.connect(f"ipc://{path}")
    begun = cpu()
    for seq in range(FIRST, FIRST + count):
        socket.send(encoder.encode(Line(BUILD, seq, AT, TEXT)))
    say(sent=count, cpu=cpu() - begun)


def send_many(path: str, count: int) -> None:
    socket = zmq.Context().socket(zmq.PUSH)
    socket.connect(f"ipc://{path}")
    begun = cpu()
    for first in range(FIRST, FIRST + count, BATCH):
        until = min(first + BATCH, FIRST + count)
        socket.send(encoder.encode_lines([Line(BUILD, seq, AT, TEXT) for seq in range(first, until)]))
    say(sent=count, cpu=cpu() - begun)


def answer(path: str) -> None:
    decode = msgspec.json.Decoder(Echo).decode
    socket = zmq.Context().socket(zmq.REP)
    socket.bind(f"ipc://{path}")
    say(ready=True)
    while True:
        socket.send(encoder.encode(decode(socket.recv())))


def trip(path: str, warm: int, count: int) -> None:
    decode = msgspec.json.Decoder(Echo).decode
    socket = zmq.Context().socket(zmq.REQ)
    socket.connect(f"ipc://{path}")
    times = []
    sum_ = 0
    for seq in range(FIRST, FIRST + warm + count):
        begun = time.perf_counter()
        socket.send(encoder.encode(Echo(BUILD, seq, AT, TEXT)))
        sum_ += decode(socket.recv()).seq
        times.append(time.perf_counter() - begun)
    say(received=warm + count, sum=sum_, **latencies(times[warm:]))


ROLES = {
    "receive": receive,
    "receive-many": receive_many,
    "send": send,
    "send-many": send_many,
    "answer": answer,
    "trip": trip,
}

if __name__ == "__main__":
    ROLES[sys.argv[1]](sys.argv[2], *map(int, sys.argv[3:]))  # type: ignore[operator]
