"""``python -m workflow.warm.server``: a process that has imported what takes long, and forks a child a command.

The workflow starts it (`workflow.warm.start`) with a listening socket and with the environment of a job. It imports
PACKAGES, none of them of this repository, and starts no thread. A child becomes the command that a client sends
(`workflow.warm.client`): it takes over arguments, folder, environment, umask, ignored signals and the standard files,
draws new random states, and runs the module or script as the interpreter would. So nothing of one command reaches
another, and every command reads the code of the repository from disk.

A command is sent back, to run by itself, where a child would differ from it: another environment (except VARYING), so
also another number of threads; another interpreter; other limits, priority or cores; packages installed since the
start. The server ends when the workflow does, or after IDLE_S without a command, and its children end with it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import marshal
import os
import random
import runpy
import selectors
import signal
import socket
import struct
import sys
import tempfile
import threading
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

from workflow.warm.client import ACCEPTED, EXIT, FORWARDED, LENGTH, STANDARD_FILES, peer_of, process_state

PACKAGES = (
    *("numpy", "scipy.stats", "scipy.optimize", "pandas", "pyarrow.parquet", "pyarrow.compute"),
    *("yaml", "jinja2", "psutil", "tokenizers", "safetensors.torch", "accelerate", "datasets"),
    *("torch", "torch.optim", "torch.distributed", "lm_eval.api.model", "lm_eval.evaluator"),
    *("transformers", "transformers.generation", "transformers.modeling_utils", "transformers.pytorch_utils"),
    *("transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto"),
    *("transformers.models.qwen2.modeling_qwen2", "transformers.models.qwen3.modeling_qwen3"),
    *("transformers.models.llama.modeling_llama", "transformers.models.gemma3.modeling_gemma3"),
    *("matplotlib.pyplot", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf"),
    *("seaborn", "PIL.PngImagePlugin"),
)
"""Imported before the first command."""
VARYING = frozenset(
    {b"PATH", b"PWD", b"OLDPWD", b"SHLVL", b"_", b"TMPDIR", b"TMP", b"TEMP", b"TEMPDIR", b"JE_ARROW_MALLOC_CONF"}
)
"""Environment variables on which no import depends, and one that the server alone has (`workflow.warm.start`)."""
OWN = b"C2C_"
"""Start of the names of variables that only this repository reads."""
IDLE_S = 3600
READ_S = 10
"""Longest wait for the rest of a request."""
DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
NAME = "c2c-"
"""Start of the name of a child's process, before the number of its client."""


class Request(NamedTuple):
    """A command as the client sends it, in bytes."""

    program: bytes
    arguments: list[bytes]
    environment: dict[bytes, bytes]
    folder: bytes
    umask: int
    ignored: list[int]
    state: tuple[object, ...]


@dataclass(frozen=True)
class Surroundings:
    """What a child has from the server, so that a command must have the same.

    Args:
        environment: Environment variables.
        state: Limits and the like (`process_state`).
        installed: When something was last installed in each folder of packages.
    """

    environment: dict[bytes, bytes]
    state: tuple[object, ...]
    installed: dict[str, int]

    @classmethod
    def read(cls) -> Surroundings:
        """Those of this process."""
        return cls(_lasting(dict(os.environb)), marshal.loads(marshal.dumps(process_state())), _installed())

    def allow(self, request: Request) -> bool:
        """Whether a child would be what the command is by itself."""
        return (
            _lasting(request.environment) == self.environment
            and request.state == self.state
            and Path(os.fsdecode(request.program)).parent == Path(sys.executable).parent
            and _installed() == self.installed
        )

    def added(self) -> dict[bytes, bytes]:
        """Environment variables that imports have set since."""
        return {k: v for k, v in _lasting(dict(os.environb)).items() if self.environment.get(k) != v}


@dataclass(frozen=True)
class Child:
    """A child that runs a command.

    Args:
        pid: Its number, which is also that of its process group.
        handle: Its pidfd, which can be read once it has ended.
        connection: To the client.
    """

    pid: int
    handle: int
    connection: socket.socket

    def end(self) -> None:
        """Kill what still runs of it, and tell the client how it ended."""
        # The group does not exist before the child has made it.
        for kill in (os.kill, os.killpg):
            with contextlib.suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)
        self.report()

    def report(self) -> None:
        """Wait for its end, and tell the client its exit code: that of a signal is negative."""
        _, status = os.waitpid(self.pid, 0)
        with contextlib.suppress(OSError):
            self.connection.sendall(EXIT.pack(os.waitstatus_to_exitcode(status)))
        self.close()

    def close(self) -> None:
        """Close its files."""
        self.connection.close()
        os.close(self.handle)


@dataclass(frozen=True)
class ClientCommand:
    """A command of a client, to be run in this process.

    Args:
        request: What the client sent.
        files: Its standard files.
        client: Number of its process.
    """

    request: Request
    files: list[int]
    client: int


class Server:
    """Forks a child for each command.

    Args:
        listener: Where clients connect.
        workflow: Pidfd of the process that started this one.
        surroundings: Those of this process at its start.
    """

    def __init__(self, listener: socket.socket, workflow: int, surroundings: Surroundings) -> None:
        self.listener = listener
        self.workflow = workflow
        self.surroundings = surroundings
        self.children: list[Child] = []
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ)
        self.selector.register(workflow, selectors.EVENT_READ)

    def serve(self) -> ClientCommand | None:
        """Fork children until the workflow ends; returns in a child its command, and None in this process."""
        while events := self.selector.select(None if self.children else IDLE_S):
            for key, _ in events:
                if key.fd == self.workflow:
                    for child in self.children:
                        child.end()
                    return None
                if key.fd == self.listener.fileno():
                    command = self._accept()
                    if command is not None:
                        return command
                elif key.data in self.children:
                    # Both of its files may be ready at once; it is looked at once.
                    self._leave(key.data, has_ended=key.fd == key.data.handle)
        return None

    def _accept(self) -> ClientCommand | None:
        """Fork a child for a client, which returns its command; None in this process, also where there is no child."""
        connection, _ = self.listener.accept()
        command = _receive(connection)
        pid: int | None = None
        if command is not None and self.surroundings.allow(command.request):
            # Where the system has no room for another process, other commands must not end with the server.
            with contextlib.suppress(OSError):
                pid = os.fork()
        if pid is None:
            connection.close()
        elif pid == 0:
            self._close(connection)
            return command
        else:
            child = Child(pid, os.pidfd_open(pid), connection)
            self.children.append(child)
            for file in (child.handle, child.connection):
                self.selector.register(file, selectors.EVENT_READ, child)
            with contextlib.suppress(OSError):
                socket.send_fds(connection, [ACCEPTED], [child.handle])
        for number in command.files if command else []:
            os.close(number)
        return None

    def _leave(self, child: Child, has_ended: bool) -> None:
        self.children.remove(child)
        for file in (child.handle, child.connection):
            self.selector.unregister(file)
        if has_ended:
            child.report()
        else:
            child.end()

    def _close(self, connection: socket.socket) -> None:
        """Close in a child what is open in the server."""
        self.selector.close()
        self.listener.close()
        connection.close()
        os.close(self.workflow)
        for child in self.children:
            child.close()


def _lasting(environment: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {k: v for k, v in environment.items() if k not in VARYING and not k.startswith(OWN)}


def _installed() -> dict[str, int]:
    """When something was last installed in each folder of packages."""
    return {path: Path(path).stat().st_mtime_ns for path in sys.path if path.endswith("site-packages")}


def _receive(connection: socket.socket) -> ClientCommand | None:
    """The command of a client of this user; None for another user, or if the request is not whole."""
    client, user, _ = peer_of(connection)
    # Another user, who could otherwise keep all commands waiting, is not waited for.
    if user != os.getuid():
        return None
    connection.settimeout(READ_S)
    files: list[int] = []
    try:
        head, files, _, _ = socket.recv_fds(connection, LENGTH.size, len(STANDARD_FILES))
        (length,) = LENGTH.unpack(head)
        # A long request comes in parts.
        content = b""
        while len(content) < length:
            if not (part := connection.recv(length - len(content))):
                raise EOFError
            content += part
        connection.settimeout(None)
        return ClientCommand(Request(*marshal.loads(content)), files, client)
    except (OSError, ValueError, EOFError, TypeError, struct.error):
        for number in files:
            os.close(number)
        return None


def import_packages() -> None:
    """Import PACKAGES, those that are installed.

    Raises:
        SystemExit: If one of them has started a thread, which a child would lack.
    """
    for name in PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # At its first weights transformers compiles a thousand patterns for names of weights, the same for every model.
    with contextlib.suppress(ImportError):
        from transformers.conversion_mapping import get_checkpoint_conversion_mapping

        get_checkpoint_conversion_mapping("llama")
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        sys.exit("The warm process must have one thread; commands run by themselves")
    # A collection in a child would copy its pages and find nothing.
    gc.collect()
    gc.freeze()


def take_over(command: ClientCommand, server: int, added: dict[bytes, bytes]) -> None:
    """Become the process of a client: its files, signals, folder, environment, and nothing of the server's.

    Args:
        command: What the client sent.
        server: Number of the process that forked this one.
        added: Environment variables that imports set, as they would in the client's process.
    """
    request = command.request
    os.setsid()
    ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)
    Path("/proc/self/comm").write_text(f"{NAME}{command.client}", encoding="ascii")
    # Files: the streams are new, since the old ones know what the server's files were.
    for number, file in zip(STANDARD_FILES, command.files, strict=True):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = sys.__stdin__ = _stream(sys.stdin, 0, "rb")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(sys.stdout, 1, "wb")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(sys.stderr, 2, "wb")  # type: ignore[misc]
    # Signals, umask, folder and environment.
    for name in FORWARDED:
        signal.signal(name, signal.default_int_handler if name == signal.SIGINT else signal.SIG_DFL)
    for number in request.ignored:
        signal.signal(number, signal.SIG_IGN)
    os.umask(request.umask)
    os.chdir(request.folder)
    os.environb.clear()
    os.environb.update({**request.environment, **added})
    # What was drawn or noted before the fork is equal in all children.
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    tempfile.tempdir = None
    for name in [name for name in sys.modules if name.partition(".")[0] == "workflow"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def _stream(previous: TextIOWrapper, number: int, mode: str) -> TextIOWrapper:
    """A standard stream as the interpreter makes it at its start."""
    # Unbuffered (PYTHONUNBUFFERED) is what is written, not what is read.
    is_unbuffered = previous.write_through
    buffer = open(number, mode, buffering=0 if is_unbuffered and mode == "wb" else -1, closefd=False)  # noqa: SIM115
    return TextIOWrapper(
        buffer,
        previous.encoding,
        previous.errors,
        newline="\n",
        line_buffering=not is_unbuffered and (number == 2 or buffer.isatty()),
        write_through=is_unbuffered,
    )


def run(request: Request) -> None:
    """Run a script, or a module as ``python -m`` does, in this process."""
    program = os.fsdecode(request.program)
    arguments = [os.fsdecode(word) for word in request.arguments]
    is_module = Path(program).name == "python"
    folder = Path.cwd() if is_module else Path(program).resolve().parent
    if not sys.flags.safe_path:
        sys.path[0] = str(folder)
    sys.orig_argv = [program, *arguments] if is_module else [sys.executable, program, *arguments]
    if is_module:
        # arguments: -m, the module, and the module's own.
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [program, *arguments]
        runpy.run_path(program, run_name="__main__")


def main() -> None:
    """Serve the workflow whose process, and listening socket, the arguments name; run a command in each child."""
    starter, server = int(sys.argv[1]), os.getpid()
    workflow = os.pidfd_open(starter)
    if os.getppid() != starter:
        return
    surroundings = Surroundings.read()
    import_packages()
    command = Server(socket.socket(fileno=int(sys.argv[2])), workflow, surroundings).serve()
    if command is None:
        os._exit(0)
    take_over(command, server, surroundings.added())
    try:
        run(command.request)
    except SystemExit as end:
        # The interpreter prints any other code.
        if not isinstance(end.code, int | None):
            raise
        leave(end.code or 0)
    leave(0)


def leave(code: int) -> None:
    """End as the interpreter does, but without taking apart a thousand modules that the server still has."""
    threading._shutdown()
    atexit._run_exitfuncs()
    # Without what the reader of a closed pipe missed: that is an error of the interpreter's own end.
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code & 0xFF)
    sys.exit(code)


if __name__ == "__main__":
    main()
