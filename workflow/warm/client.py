"""``client.py c2c ...`` or ``client.py python -m ...``: run the command in a child of the warm process.

The files of ``bin/`` call this, so that a job's command line is the one that a person gives. Where a child would not be
what the command is by itself, or no warm process answers, the command replaces this program. The child gets the
arguments, folder, environment and open files of this program, and signals are passed on to it; it is killed when this
program is. Every command waits for the imports of this file: a few modules of the standard library.
"""

# pathlib and contextlib would double the time of the start.
# ruff: noqa: PTH118, PTH120, PTH208, PTH109, SIM105
import marshal
import os
import resource
import signal
import socket
import struct
import sys

SOCKET, PYTHON = b"C2C_WARM_SOCKET", b"C2C_WARM_PYTHON"
"""Environment variables: name of the server's abstract socket, and the interpreter of this program."""
PACKAGES = ("benchmarks", "c2c", "paper", "workflow")
"""Packages whose modules run in a child."""
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
LIMITS = sorted({number for name, number in vars(resource).items() if name.startswith("RLIMIT_")})
LENGTH, EXIT = struct.Struct("!Q"), struct.Struct("!i")
"""Forms of the length of a request, and of the exit code of a child."""
CREDENTIALS = struct.Struct("iII")
"""Process, user and group of the other end of a socket."""
ACCEPTED, STANDARD_FILES = b"y", (0, 1, 2)


def main(program: str, arguments: list[str]) -> None:
    """Run the command in a child, or replace this process by it; does not return."""
    environment = dict(os.environb)
    name = environment.pop(SOCKET, b"")
    environment.pop(PYTHON, None)
    # As a person's: without the folder of programs that brought the command here.
    own = os.fsencode(os.path.realpath(os.path.join(os.path.dirname(__file__), "bin")))
    folders = [path for path in environment.get(b"PATH", b"").split(b":") if os.path.realpath(path or b".") != own]
    environment[b"PATH"] = b":".join(folders)
    places = (os.path.join(folder, os.fsencode(program)) for folder in folders)
    path = next((place for place in places if os.access(place, os.X_OK)), b"")
    if not path:
        print(f"{program}: command not found", file=sys.stderr)
        os._exit(127)
    if name and is_module(program, arguments) and has_standard_files_alone():
        with socket.socket(socket.AF_UNIX) as connection:
            if handle := ask(connection, name, request(path, arguments, environment)):
                finish(connection, handle[0])
    os.execve(path, [os.fsencode(program), *map(os.fsencode, arguments)], environment)


def is_module(program: str, arguments: list[str]) -> bool:
    """Whether a command is ``c2c``, or ``python -m`` and a module of this repository."""
    if program == "c2c":
        return True
    return len(arguments) > 1 and arguments[0] == "-m" and arguments[1].partition(".")[0] in PACKAGES


def has_standard_files_alone() -> bool:
    """Whether standard input, output and error are open, and no other file that the command might have been given."""
    numbers = {int(name) for name in os.listdir("/proc/self/fd")}
    # The listing itself is a file that is closed by now.
    return {number for number in numbers if is_open(number)} == set(STANDARD_FILES)


def is_open(number: int) -> bool:
    """Whether a file descriptor is open."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def request(path: bytes, arguments: list[str], environment: dict[bytes, bytes]) -> bytes:
    """Everything that a child takes over from this process, but its open files."""
    mask = os.umask(0)
    os.umask(mask)
    ignored = [int(number) for number in FORWARDED if signal.getsignal(number) is signal.SIG_IGN]
    # Ctrl-C before there is a child to pass it to ends this program without a traceback.
    if signal.SIGINT not in ignored:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    words = [os.fsencode(word) for word in arguments]
    return marshal.dumps((path, words, environment, os.getcwdb(), mask, ignored, process_state()))


def process_state() -> tuple[object, ...]:
    """What a child inherits from the server and cannot take over: both must have the same."""
    limits = [resource.getrlimit(number) for number in LIMITS]
    blocked = sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))
    cores, priority = sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0)
    return blocked, limits, cores, priority, os.getresuid(), os.getresgid()


def ask(connection: socket.socket, name: bytes, message: bytes) -> list[int]:
    """A handle of the child that runs the command, or none where the command must run by itself."""
    try:
        connection.connect(b"\0" + name)
        # After the server's end any user of the machine may take its name, and would get files and environment.
        if peer_of(connection)[1] != os.getuid():
            return []
        socket.send_fds(connection, [LENGTH.pack(len(message))], STANDARD_FILES)
        connection.sendall(message)
        answer, handles, _, _ = socket.recv_fds(connection, len(ACCEPTED), 1)
    except OSError:
        return []
    return handles if answer == ACCEPTED else []


def peer_of(connection: socket.socket) -> tuple[int, int, int]:
    """Process, user and group of the other end of a connection."""
    process, user, group = CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    )
    return process, user, group


def finish(connection: socket.socket, handle: int) -> None:
    """Pass signals on to the child, and end as it ends."""
    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda received, _: send(handle, received))
    try:
        answer = connection.recv(EXIT.size, socket.MSG_WAITALL)
    except OSError:
        answer = b""
    if len(answer) < EXIT.size:
        print("The warm process ended before this command; run it again", file=sys.stderr)
        os._exit(1)
    (code,) = EXIT.unpack(answer)
    if code >= 0:
        os._exit(code)
    # The shell sees the signal that ended the child.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
    os._exit(128 - code)


def send(handle: int, number: int) -> None:
    """Send a signal to the child, if it still runs."""
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
