"""The same bytes to many sockets in one call of the kernel, by io_uring(7).

Linux has that since 5.6, unless a container's filter or `kernel.io_uring_disabled` forbids it. It is used for one thing
here, and synchronously: requests are laid out, and one call returns when each has sent what its socket takes without
waiting. Sockets are registered: a request names a slot, which is that very socket until it is given back, whatever
becomes of the descriptor. Numbers and structures are those of linux/io_uring.h.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import resource
import struct
from array import array
from collections.abc import Sequence

import structlog

ENTRIES = 1024
"""requests in one call"""
SOCKETS = 16 * 1024
"""that can be registered"""
ROOM = 64 * 1024
"""bytes that can be sent at once"""

_SETUP, _ENTER, _REGISTER = 425, 426, 427
"""system calls, by the same number on every machine"""
_SEND, _FIXED_FILE, _GETEVENTS = 26, 1, 1
_REGISTER_FILES, _UPDATE_FILES = 2, 6
_SINGLE_MMAP = 1
_REQUESTS_AT = 0x1000_0000
_DONTWAIT_NOSIGNAL = 0x40 | 0x4000
_REQUEST = struct.Struct("=BBHiQQIIQ24x")
"""opcode, flags, priority, slot, offset, address, length, send()'s flags, a number to know it by"""
_LENGTH, _WORDS = 6, 16
"""which word of 32 bits of a request its length is, and how many it has"""
_MOST = 0xFFFF_FFFF
_logger = structlog.get_logger("cotexd.hub")


class Requests:
    """To send to these slots, in their order; what, is said when they are sent."""

    __slots__ = ("parts",)

    def __init__(self, slots: Sequence[int], address: int) -> None:
        self.parts: list[memoryview] = []
        """of ENTRIES requests at most"""
        for first in range(0, len(slots), ENTRIES):
            part = bytearray()
            for number, slot in enumerate(slots[first : first + ENTRIES], first):
                part += _REQUEST.pack(_SEND, _FIXED_FILE, 0, slot, 0, address, 0, _DONTWAIT_NOSIGNAL, number)
            self.parts.append(memoryview(part).cast("I"))


class Ring:
    def __init__(self) -> None:
        """:raises OSError: the kernel has none, or does not give us one"""
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        parameters = array("I", [0] * 30)
        self._file = self._call(_SETUP, ENTRIES, _pointer(parameters))
        try:
            self._map(parameters)
            self._most = min(SOCKETS, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            nobody = array("i", [-1]) * self._most
            self._call(_REGISTER, self._file, _REGISTER_FILES, _pointer(nobody), self._most)
        except BaseException:
            os.close(self._file)
            raise
        self._free: list[int] = []
        self._used = 0
        """slots that were ever taken"""
        self._data = array("B", bytes(ROOM))

    def register(self, descriptor: int) -> int | None:
        """A slot for a socket, whose connection stays open until that is given back; None if there is none for it."""
        if not self._free:
            if self._used == self._most:
                return None
            self._free.append(self._used)
            self._used += 1
        try:
            self._put(self._free[-1], descriptor)
        except OSError:
            return (
                None  # it is written to in another way; to fail here would keep an event from everybody else
            )
        return self._free.pop()

    def give_back(self, slot: int) -> None:
        if self._file >= 0:
            self._put(slot, -1)
            self._free.append(slot)

    def requests(self, slots: Sequence[int]) -> Requests:
        """To send to these; good until one of them is given back."""
        return Requests(slots, self._data.buffer_info()[0])

    def send(self, requests: Requests, data: bytes) -> list[tuple[int, int]]:
        """Send to all of them.

        :param data: ROOM at most
        :returns: by its place, each one that did not take all of it at once, and how many bytes it took
        """
        self._data[: len(data)] = array("B", data)
        short: list[tuple[int, int]] = []
        for number, part in enumerate(requests.parts):
            count = len(part) // _WORDS
            part[_LENGTH::_WORDS] = memoryview(array("I", [len(data)]) * count)
            taken = self._submit(part, count)
            short += self._collect(taken, len(data))
            short += [(number * ENTRIES + each, 0) for each in range(taken, count)]
        return short

    def close(self) -> None:
        """Give all of it back; from now on nothing is registered or sent."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._most = -1, self._used
        self._free.clear()

    def _map(self, parameters: "array[int]") -> None:
        entries, results, features = parameters[0], parameters[1], parameters[5]
        if not features & _SINGLE_MMAP:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        # Where each ring has its head, tail, mask, entries, two of no use here, and what is in it.
        _, tail, _, _, _, _, queue = parameters[10:17]
        done_head, done_tail, _, _, _, done = parameters[20:26]
        size = max(queue + 4 * entries, done + 16 * results)
        self._words = memoryview(mmap.mmap(self._file, size)).cast("I")
        self._layout = memoryview(mmap.mmap(self._file, entries * _REQUEST.size, offset=_REQUESTS_AT)).cast(
            "I"
        )
        self._tail, self._mask = tail // 4, entries - 1
        self._done_head, self._done_tail, self._done = done_head // 4, done_tail // 4, done // 4
        self._results = results
        # Each place of the queue is the request of the same number, for good.
        self._words[queue // 4 : queue // 4 + entries] = memoryview(array("I", range(entries)))

    def _submit(self, part: memoryview, count: int) -> int:
        """How many of them the kernel took; by then it has done them."""
        tail = self._words[self._tail]
        first = (tail & self._mask) * _WORDS
        fits = min(len(part), len(self._layout) - first)
        self._layout[first : first + fits] = part[:fits]
        self._layout[: len(part) - fits] = part[fits:]
        self._words[self._tail] = (tail + count) & _MOST
        taken = 0
        while taken < count:
            try:
                taken += self._call(_ENTER, self._file, count - taken, count, _GETEVENTS, None, 0)
            except InterruptedError:
                continue
            except OSError:
                break  # it lacks memory: the rest is not sent in this way
        self._words[self._tail] = (tail + taken) & _MOST
        return taken

    def _collect(self, taken: int, size: int) -> list[tuple[int, int]]:
        """Of those that were taken, the ones that did not send so many bytes, and how many they did."""
        head = self._words[self._done_head]
        while (self._words[self._done_tail] - head) & _MOST < taken:
            with contextlib.suppress(InterruptedError):
                self._call(_ENTER, self._file, 0, taken, _GETEVENTS, None, 0)
        # Four words a result: the request's number, in two; what became of it; flags.
        first = self._done + head % self._results * 4
        end = self._done + self._results * 4
        found = array("I", self._words[first : min(first + 4 * taken, end)])
        found += array("I", self._words[self._done : self._done + 4 * taken - len(found)])
        self._words[self._done_head] = (head + taken) & _MOST
        sent = found[2::4]
        if sent.count(size) == taken:
            return []
        # An error is a number below zero, here beyond all sizes.
        return [
            (number, many if many <= size else 0)
            for number, many in zip(found[::4], sent, strict=True)
            if many != size
        ]

    def _put(self, slot: int, descriptor: int) -> None:
        files = array("i", [descriptor])
        update = array("Q", [slot, files.buffer_info()[0]])
        self._call(_REGISTER, self._file, _UPDATE_FILES, _pointer(update), 1)

    def _call(self, *arguments: int | ctypes.c_void_p | None) -> int:
        result = int(self._syscall(*arguments))
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


def opened() -> Ring | None:
    """None where the kernel has none, or does not give us one."""
    try:
        return Ring()
    except OSError as error:
        _logger.debug("no_io_uring", why=error.strerror)
        return None


def _pointer(numbers: "array[int]") -> ctypes.c_void_p:
    return ctypes.c_void_p(numbers.buffer_info()[0])
