"""A log whose reader stands still. Knows nothing of records."""

import os
import select

import pytest

from sealmq.broker.logstream import LogStream


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def everything(reader):
    found = b""
    while select.select([reader], [], [], 0)[0]:
        found += os.read(reader, 1 << 16)
    return found.decode()


def stream(writer, patience=0.0):
    return LogStream(writer, told=lambda lost: f"{lost} lost", patience=patience)


def test_what_is_read_in_time_is_whole_and_in_order(pipe):
    reader, writer = pipe
    log = stream(writer, patience=5.0)
    for line in ("short\n", "é" * 9000 + "\n", "\ud800\n"):
        log.write(line)
    assert everything(reader) == "short\n" + "é" * 9000 + "\n" + "\\ud800\n"


@pytest.mark.parametrize("length", [10, 4096, 10_000])
def test_a_reader_that_stands_still_is_told_what_it_has_missed(pipe, length):
    reader, writer = pipe
    log = stream(writer)
    line = "x" * (length - 1) + "\n"
    count = 3 * 65_536 // length
    for _ in range(count):
        log.write(line)
    before = everything(reader).splitlines()
    log.write("again\n")
    cut, told, again = ["", *everything(reader).splitlines()][-3:]
    whole = sum(one == line[:-1] for one in before)
    assert (cut, again) == ("", "again")
    assert told == f"{count - whole} lost"


def test_a_nonblocking_descriptor_loses_nothing_that_there_is_room_for(pipe):
    reader, writer = pipe
    os.set_blocking(writer, False)
    log = stream(writer)
    log.write("one\n")
    assert everything(reader) == "one\n"


def test_a_reader_that_is_gone_is_an_error():
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        stream(writer).write("x\n")
    os.close(writer)
