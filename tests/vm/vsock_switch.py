"""A packet switch between virtual machines: vsock_switch.py CID=SOCKET CID=SOCKET ...

Each SOCKET serves one VM's virtio-vsock device over vhost-user; CID is that VM's. A packet goes to the VM
that owns its dst_cid. Flow control, handshake and shutdown are the two kernels' business, so there is no
vsock state here at all. Works with UML (``virtio_uml.device=SOCKET:19``) and with QEMU
(vhost-user-vsock-pci over shared memory).

Traps, each of which cost a hang:

1. The used index is published with one 16-bit store. ``struct.pack_into`` zeroes its bytes first, and a VM
   that looks at that moment takes the ring for broken: "id N is not a head!". See ``Ring.publish``.
2. virtio_uml of Linux 6.1 needs the protocol feature BACKEND_REQ, or its interrupt is 0 and the probe
   fails; and it resets when the descriptor of SET_BACKEND_REQ_FD is closed, so that is kept.
3. The call descriptor is always written: Python has no barrier with which to trust the no-interrupt flag.
4. The death of a VM is told to the others by an event, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET; without it their
   connections hang instead of failing.

Sources: virtio 1.2 §2.7 (split rings) and §5.10 (vsock), QEMU's docs/interop/vhost-user.rst.
"""

from __future__ import annotations

import array
import contextlib
import mmap
import os
import selectors
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

F_VERSION_1, F_PROTOCOL = 1 << 32, 1 << 30
P_REPLY_ACK, P_BACKEND_REQ, P_CONFIG = 1 << 3, 1 << 5, 1 << 9
NEED_REPLY = 1 << 3
REPLY_FLAGS = 5  # version 1, and "this is a reply"
DESC_NEXT = 1
OP_RST = 3
RX, TX, EVENT = range(3)

PACKET = struct.Struct("<QQIIIHHIII")  # src_cid dst_cid src_port dst_port len type op flags buf_alloc fwd_cnt


class Request(IntEnum):
    """The vhost-user requests that do something here; the others are acknowledged."""

    GET_FEATURES = 1
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    GET_PROTOCOL_FEATURES = 15
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SET_BACKEND_REQ_FD = 21
    GET_CONFIG = 24


class Header(NamedTuple):
    """``struct virtio_vsock_hdr``."""

    src_cid: int
    dst_cid: int
    src_port: int
    dst_port: int
    length: int
    kind: int
    op: int
    flags: int
    buf_alloc: int
    fwd_cnt: int

    def refusal(self) -> Header:
        """The reset that answers this packet."""
        return Header(self.dst_cid, self.src_cid, self.dst_port, self.src_port, 0, self.kind, OP_RST, 0, 0, 0)


class Region(NamedTuple):
    """A piece of a VM's memory that is mapped here."""

    guest: int
    user: int
    size: int
    offset: int
    view: memoryview


class Place(NamedTuple):
    """A position in a VM's memory."""

    view: memoryview
    offset: int


class Chain(NamedTuple):
    """A descriptor chain: its head and its buffers."""

    head: int
    buffers: list[memoryview]


@dataclass
class Ring:
    """One virtqueue; ``seen`` counts the available entries that were taken."""

    num: int = 0
    seen: int = 0
    desc: Place | None = None
    avail: Place | None = None
    used: Place | None = None
    kick: int = -1
    call: int = -1

    def next_head(self) -> int | None:
        """Take the next available chain, or None if there is none."""
        if self.avail is None or not self.num:
            return None
        view, start = self.avail
        if struct.unpack_from("<H", view, start + 2)[0] == self.seen:
            return None
        head: int = struct.unpack_from("<H", view, start + 4 + 2 * (self.seen % self.num))[0]
        self.seen = (self.seen + 1) & 0xFFFF
        return head

    def publish(self, head: int, written: int) -> None:
        """Hand a chain back to the VM, with the number of bytes that were put into it."""
        assert self.used is not None
        view, start = self.used
        index: int = struct.unpack_from("<H", view, start + 2)[0]
        struct.pack_into("<II", view, start + 4 + 8 * (index % self.num), head, written)
        # One 16-bit store, trap 1 above: do not make this a pack_into.
        view[start + 2 : start + 4].cast("H")[0] = (index + 1) & 0xFFFF
        if self.call >= 0:
            with contextlib.suppress(OSError):  # the VM may be dead
                os.write(self.call, struct.pack("=Q", 1))


class Switch:
    """All ports, and the loop that serves them."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.ports: dict[int, Port] = {}

    def watch(self, file: socket.socket | int, callback: Callable[[], None]) -> None:
        self.selector.register(file, selectors.EVENT_READ, callback)

    def serve(self) -> None:
        while True:
            for key, _ in self.selector.select():
                # A callback may have unregistered what is still in this list: a VM died.
                if key.fd in self.selector.get_map():
                    key.data()


@dataclass
class Port:
    """One VM: its vhost-user connection, its memory, its rings and the packets that wait for it."""

    switch: Switch
    cid: int
    path: str
    conn: socket.socket | None = None
    memory: list[Region] = field(default_factory=list)
    rings: list[Ring] = field(default_factory=lambda: [Ring(), Ring(), Ring()])
    waiting: list[tuple[Header, bytes]] = field(default_factory=list)
    held_fds: list[int] = field(default_factory=list)

    def open(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen()
        self.switch.watch(listener, lambda: self.accept(listener))
        self.switch.ports[self.cid] = self

    def accept(self, listener: socket.socket) -> None:
        self.conn = listener.accept()[0]
        self.switch.watch(self.conn, self.on_message)

    def is_ready(self, index: int) -> bool:
        return self.conn is not None and self.rings[index].kick >= 0

    # vhost-user

    def on_message(self) -> None:
        fds: list[int] = []
        try:
            number, flags, size = struct.unpack("<III", self.receive(12, fds))
            body = self.receive(size, fds)
        except (EOFError, ConnectionError):
            self.hang_up()
            return
        reply = self.answer(number, body, fds)
        for fd in fds:
            os.close(fd)
        if reply is None and flags & NEED_REPLY:
            reply = bytes(8)
        if reply is not None and self.conn is not None:
            self.conn.sendall(struct.pack("<III", number, REPLY_FLAGS, len(reply)) + reply)

    def receive(self, size: int, fds: list[int]) -> bytes:
        assert self.conn is not None
        data = b""
        while len(data) < size:
            part, ancillary, _, _ = self.conn.recvmsg(size - len(data), 4096)
            if not part:
                raise EOFError
            for level, kind, raw in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds += array.array("i", raw[: len(raw) // 4 * 4])
            data += part
        return data

    def answer(self, number: int, body: bytes, fds: list[int]) -> bytes | None:
        """Do what a request asks; descriptors that are kept are taken out of ``fds``."""
        index, value = struct.unpack("<II", body) if len(body) == 8 else (0, 0)
        match number:
            case Request.GET_FEATURES:
                return struct.pack("<Q", F_VERSION_1 | F_PROTOCOL)
            case Request.GET_PROTOCOL_FEATURES:
                return struct.pack("<Q", P_REPLY_ACK | P_BACKEND_REQ | P_CONFIG)
            case Request.GET_QUEUE_NUM:
                return struct.pack("<Q", len(self.rings))
            case Request.GET_CONFIG:  # of this device: u64 guest_cid
                offset, size, _ = struct.unpack_from("<III", body)
                return body[:12] + struct.pack("<Q", self.cid).ljust(offset + size, b"\0")[offset:][:size]
            case Request.GET_VRING_BASE:
                return struct.pack("<II", index, self.rings[index].seen)
            case Request.SET_MEM_TABLE:
                self.map_memory(body, fds)
            case Request.SET_VRING_NUM:
                self.rings[index].num = value
            case Request.SET_VRING_BASE:
                self.rings[index].seen = value
            case Request.SET_VRING_ADDR:
                self.set_addresses(body)
            case Request.SET_VRING_KICK:
                self.set_kick(self.rings[index & 0xFF], fds.pop() if fds else -1)
            case Request.SET_VRING_CALL:
                self.set_call(self.rings[index & 0xFF], fds.pop() if fds else -1)
            case Request.SET_VRING_ENABLE if value:
                self.pump()
            case Request.SET_BACKEND_REQ_FD:  # trap 2
                self.held_fds += fds
                fds.clear()
        return None

    def map_memory(self, body: bytes, fds: list[int]) -> None:
        self.memory = []
        for index, fd in enumerate(fds):
            guest, size, user, offset = struct.unpack_from("<QQQQ", body, 8 + 32 * index)
            self.memory.append(Region(guest, user, size, offset, memoryview(mmap.mmap(fd, size + offset))))

    def set_addresses(self, body: bytes) -> None:
        index, _, desc, used, avail, _ = struct.unpack("<IIQQQQ", body)
        ring = self.rings[index]
        ring.desc, ring.used, ring.avail = map(self.find_user, (desc, used, avail))

    def set_kick(self, ring: Ring, fd: int) -> None:
        if ring.kick >= 0:
            self.switch.selector.unregister(ring.kick)
            os.close(ring.kick)
        ring.kick = fd
        if fd >= 0:
            self.switch.watch(fd, lambda: self.on_kick(fd))

    @staticmethod
    def set_call(ring: Ring, fd: int) -> None:
        if ring.call >= 0:
            os.close(ring.call)
        ring.call = fd

    def hang_up(self) -> None:
        """The VM is gone: forget it, and reset its peers' connections (trap 4)."""
        assert self.conn is not None
        self.switch.selector.unregister(self.conn)
        self.conn.close()
        for ring in self.rings:
            self.set_kick(ring, -1)
            self.set_call(ring, -1)
        for fd in self.held_fds:
            os.close(fd)
        self.conn, self.rings, self.waiting, self.held_fds = None, [Ring(), Ring(), Ring()], [], []
        for other in self.switch.ports.values():
            if other.is_ready(EVENT) and (chain := other.take(EVENT)):
                chain.buffers[0][:4] = bytes(4)
                other.rings[EVENT].publish(chain.head, 4)

    # Rings

    def find_guest(self, address: int) -> Place:
        for region in self.memory:
            if region.guest <= address < region.guest + region.size:
                return Place(region.view, address - region.guest + region.offset)
        raise ValueError(f"guest address {address:#x} is not mapped")

    def find_user(self, address: int) -> Place:
        for region in self.memory:
            if region.user <= address < region.user + region.size:
                return Place(region.view, address - region.user + region.offset)
        raise ValueError(f"user address {address:#x} is not mapped")

    def take(self, index: int) -> Chain | None:
        ring = self.rings[index]
        if (head := ring.next_head()) is None:
            return None
        assert ring.desc is not None
        view, start = ring.desc
        buffers = []
        entry = head
        while True:
            address, size, flags, following = struct.unpack_from("<QIHH", view, start + 16 * entry)
            place = self.find_guest(address)
            buffers.append(place.view[place.offset : place.offset + size])
            if not flags & DESC_NEXT:
                return Chain(head, buffers)
            entry = following

    def on_kick(self, fd: int) -> None:
        os.read(fd, 8)
        self.pump()

    def pump(self) -> None:
        """Take what this VM has sent, then put what it can receive."""
        while self.is_ready(TX) and (chain := self.take(TX)):
            packet = b"".join(chain.buffers)
            self.rings[TX].publish(chain.head, 0)
            self.route(Header(*PACKET.unpack_from(packet)), packet[PACKET.size :])
        self.fill()

    def route(self, header: Header, data: bytes) -> None:
        target = self.switch.ports.get(header.dst_cid)
        if target is not None and target.is_ready(RX):
            target.waiting.append((header, data[: header.length]))
            if target is not self:
                target.fill()
        elif header.op != OP_RST:
            self.waiting.append((header.refusal(), b""))

    def fill(self) -> None:
        """Put waiting packets into this VM's buffers, split where a buffer is too small."""
        while self.waiting and self.is_ready(RX) and (chain := self.take(RX)):
            header, data = self.waiting.pop(0)
            room = sum(map(len, chain.buffers)) - PACKET.size
            part, rest = data[:room], data[room:]
            if rest:
                self.waiting.insert(0, (header, rest))
            packet = PACKET.pack(*header._replace(length=len(part))) + part
            written = len(packet)
            for buffer in chain.buffers:
                size = min(len(buffer), len(packet))
                buffer[:size], packet = packet[:size], packet[size:]
            self.rings[RX].publish(chain.head, written)


def main() -> None:
    switch = Switch()
    for argument in sys.argv[1:]:
        cid, _, path = argument.partition("=")
        Port(switch, int(cid), path).open()
    print("switch ready", flush=True)
    switch.serve()


if __name__ == "__main__":
    main()
