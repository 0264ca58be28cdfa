"""What the processes of a distributed run know of each other: who was asked to stop, who has ended, when all end.

Every process has a connection to rank 0, and a thread that listens to it. Over the connection a process says which
signal it received and why it leaves; rank 0 says when all end. A connection that breaks means that its process has
ended. Rank 0 alone saves, because nothing that a resume needs differs between the processes.

The thread also works while the main thread waits for another process inside PyTorch, where Python handles no signals.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import socket
import sys
import threading
import time
from typing import Any

import torch

from kdsr.processes import describe_this_process

SIGNALS = tuple(getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGUSR1') if hasattr(signal, name))
MEETING_SECONDS = 60.0
EXPLAINING_SECONDS = 5.0  # in which an error may turn out to come from another process that has ended
GRACE_SECONDS = 15.0  # in which the main thread may notice by itself that another process has ended
FAREWELL_SECONDS = 10.0  # in which the others learn that the run is over
WHOLE = 'What was saved before is whole; --auto_resume goes on from it.'
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_KEEP_ALIVE = {'TCP_KEEPIDLE': 20, 'TCP_KEEPINTVL': 5, 'TCP_KEEPCNT': 4}  # seconds: a machine that is switched off


class Connection:
    """Messages (JSON objects, one a line) over a socket, from any thread.

    Args:
        connected: The socket.
    """

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._rest = b''
        self._sending = threading.Lock()
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items() if connected.family in _INTERNET else ():
            if hasattr(socket, name):  # not on every system
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, **message: Any) -> None:
        """Send a message; when the other end is gone, drop it."""
        with contextlib.suppress(OSError), self._sending:
            self.socket.sendall(json.dumps(message).encode() + b'\n')

    def receive(self) -> list[dict[str, Any]] | None:
        """Wait for messages; return None when the other end is gone."""
        try:
            received = self.socket.recv(65536)
        except OSError:
            return None
        *lines, self._rest = (self._rest + received).split(b'\n')
        return [json.loads(line) for line in lines] if received else None


class Peers:
    """The processes of a distributed run, seen from one of them. Use :meth:`meet` to create it in all of them.

    Args:
        rank: Of this process.
        names: Rank to the process in words, of those at the other ends.
        connections: Rank to connection: of all others in rank 0, of rank 0 in the others.
        size: The number of processes.

    Attributes:
        asked: Rank to the number of the signal that asked it to stop.
        failure: Which other process ended too early; '' when another process says it; None when none did.
        main_acts: The main thread ends the run, however long it takes.
    """

    def __init__(self, rank: int, size: int, names: dict[int, str], connections: dict[int, Connection]) -> None:
        self.rank, self.size, self.names = rank, size, names
        self.asked: dict[int, int] = {}
        self._connections = connections  # those that are open
        self._left: dict[int, str] = {}  # rank to the reason, of those that left by themselves
        self.failure: str | None = None
        self.main_acts = False
        self._failed_at = 0.0
        self._relayed = False
        self._over = False
        self._wakes, self._wakened = socket.socketpair()
        self._wakes.setblocking(False)
        self._thread = threading.Thread(target=self._listen, name='kdsr peers', daemon=True)

    @classmethod
    def meet(cls, rank: int, size: int) -> Peers:
        """Connect the processes. All of them must call this, with the process group initialised."""
        listener = _create_server() if rank == 0 else None
        offer = [(listener.getsockname()[1], secrets.token_hex(16)) if listener else None]
        torch.distributed.broadcast_object_list(offer, src=0)
        assert offer[0] is not None
        port, token = offer[0]
        if listener is not None:
            names, connections = _accept_all(listener, size, token)
        else:
            host = os.environ.get('MASTER_ADDR', '127.0.0.1')
            connected = socket.create_connection((host, port), timeout=MEETING_SECONDS)
            connected.settimeout(None)
            names, connections = {0: 'rank 0'}, {0: Connection(connected)}
            connections[0].send(rank=rank, token=token, name=describe_this_process())
        peers = cls(rank, size, names, connections)
        peers._start()
        return peers

    def note_signal(self, number: int) -> None:
        """Note in rank 0 that it received a signal itself."""
        if not self._relayed:
            self.asked[0] = number

    def describe_asked(self) -> str:
        """Say in rank 0 which process received a signal: `` to rank 1 (process 4711 on node7)``."""
        if len(self.asked) == self.size:
            return f' to all {self.size} processes'
        names = {0: describe_this_process(), **self.names}
        return ''.join(f' to rank {rank} ({names[rank]})' for rank in sorted(self.asked)[:1])

    def explain(self) -> str | None:
        """Wait whether an error in this process comes from another one that has ended.

        Returns:
            Which process has ended; '' when another process says it; None when no process has ended.
        """
        deadline = time.monotonic() + EXPLAINING_SECONDS
        while self.failure is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.failure

    def leave(self, status: int, reason: str = '') -> None:
        """Tell the others that this process leaves. When rank 0 leaves, they end with its status.

        Args:
            status: The exit status; 0 at the end of a whole run.
            reason: Why it leaves early.
        """
        self._over = True
        message = {'end': status} if self.rank == 0 else {'left': status, 'reason': reason}
        for connection in list(self._connections.values()):
            connection.send(**message)
        if self.rank == 0:
            self._wait_for_the_others()
        elif threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)
        self._wakes.close()  # ends the thread
        self._thread.join(FAREWELL_SECONDS)
        self._wakened.close()
        for connection in list(self._connections.values()):
            connection.socket.close()

    def _start(self) -> None:
        if self.rank and threading.current_thread() is threading.main_thread():  # only there Python handles signals
            signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        self._thread.start()

    def _listen(self) -> None:
        """Do in the thread what must not wait for the main thread."""
        while True:
            by_socket = {connection.socket: rank for rank, connection in self._connections.items()}
            ready = select.select([self._wakened, *by_socket], [], [], 1.0)[0]
            for one in ready:
                if one is self._wakened:
                    if not self._relay_signals(self._wakened.recv(64)):
                        return
                else:
                    self._receive(by_socket[one])
            if self.failure is not None and not (self._over or self.main_acts) and self._waited_for_main():
                self._end_all(1, self.failure)

    def _relay_signals(self, numbers: bytes) -> bool:
        """Tell rank 0 which signals this process received; return False when the connection to the main thread ends."""
        for number in numbers:
            if number in SIGNALS:
                self._connections[0].send(asked=number)
        return bool(numbers)

    def _receive(self, rank: int) -> None:
        messages = self._connections[rank].receive()
        for message in messages or ():
            if 'asked' in message:
                self._stop_with(rank, message['asked'])
            elif 'left' in message:
                self._left[rank] = message['reason']
                if message['left']:
                    self._fail(f'the process of rank {rank} ({self.names[rank]}) has ended: {message["reason"]}')
            elif message['end']:
                os._exit(message['end'])
            else:  # a whole run
                self._over = True
        if messages is None:
            self._connections.pop(rank).socket.close()
            if rank not in self._left and not self._over:
                self._fail(_describe_killed(rank, self.names[rank]) if self.rank in (0, 1) else '')

    def _stop_with(self, rank: int, number: int) -> None:
        """Let the main thread of rank 0 handle the signal of another process."""
        self.asked[rank] = number
        if not self._relayed and 0 not in self.asked:
            self._wake_main(number)

    def _fail(self, message: str) -> None:
        """Remember that another process has ended; a validation of rank 0 can be left for it."""
        if self.failure is None:
            self.failure, self._failed_at = message, time.monotonic()
            if self.rank == 0:
                self._wake_main(signal.SIGTERM)

    def _wake_main(self, number: int) -> None:
        self._relayed = True
        if hasattr(signal, 'pthread_kill'):
            signal.pthread_kill(threading.main_thread().ident, number)  # type: ignore[arg-type]

    def _waited_for_main(self) -> bool:
        return time.monotonic() - self._failed_at > GRACE_SECONDS

    def _end_all(self, status: int, message: str) -> None:
        """End all processes from the thread, whatever the main thread waits for."""
        if message:
            sys.stderr.write(f'\nkdsr: {message}. {WHOLE}\n')
            sys.stderr.flush()
        if self.rank == 0:
            for connection in self._connections.values():
                connection.send(end=status)
        os._exit(status)

    def _wait_for_the_others(self) -> None:
        deadline = time.monotonic() + FAREWELL_SECONDS
        while self._connections and time.monotonic() < deadline:
            time.sleep(0.05)


def _create_server() -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(('', 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(('', 0))


def _accept_all(listener: socket.socket, size: int, token: str) -> tuple[dict[int, str], dict[int, Connection]]:
    """Accept the connections of all other processes in rank 0; whoever does not know the token is left out."""
    names: dict[int, str] = {}
    connections: dict[int, Connection] = {}
    listener.settimeout(MEETING_SECONDS)
    with listener:
        while len(connections) < size - 1:
            accepted, _ = listener.accept()
            accepted.settimeout(MEETING_SECONDS)
            connection = Connection(accepted)
            hello = _read_hello(connection)
            if hello.get('token') != token:
                accepted.close()
                continue
            accepted.settimeout(None)
            names[hello['rank']], connections[hello['rank']] = hello['name'], connection
    return names, connections


def _read_hello(connection: Connection) -> dict[str, Any]:
    """Read the first message of a connection; return {} when it is not one of ours."""
    try:
        messages = connection.receive()
        return dict(messages[0]) if messages else {}
    except (ValueError, TypeError):
        return {}


def _describe_killed(rank: int, name: str) -> str:
    known = f'rank {rank}' if name == f'rank {rank}' else f'rank {rank} ({name})'
    return f'the process of {known} has ended without a message, as after `kill -9` or when the memory runs out'
