"""The warm process: a command in one of its children is the command by itself, but for the time of its start."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from snakemake.benchmark import BenchmarkRecord

from c2c.provenance import file_hash
from workflow.paths import ROOT
from workflow.warm import client, server, start
from workflow.warm.server import NAME, PACKAGES, Request, Surroundings

PROBE = """
import json, os, random, signal, sys, time

what, *words = sys.argv[1:]
if what == "look":
    warm = "torch" in sys.modules
    import numpy
    import paper
    mask = os.umask(0)
    os.umask(mask)
    looks = {
        "argv": sys.argv, "orig_argv": sys.orig_argv[1:], "path": sys.path, "flags": repr(sys.flags), "umask": mask,
        "folder": os.getcwd(), "environ": dict(os.environ), "main": __spec__.name, "file": __file__, "warm": warm,
        "open": len(os.listdir("/proc/self/fd")), "input": sys.stdin.read(),
        "ignored": [int(s) for s in signal.valid_signals() if signal.getsignal(s) is signal.SIG_IGN],
        "streams": [
            (stream.encoding, stream.errors, stream.line_buffering, stream.write_through, stream.isatty())
            for stream in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "threads": len(os.listdir("/proc/self/task")), "package": paper.__file__,
    }
    print(json.dumps({**looks, "random": [random.random(), float(numpy.random.rand())]}))
elif what == "end":
    print("on stdout")
    print("on stderr", file=sys.stderr)
    exec(words[0])
elif what == "wait":
    def stop(number, _):
        print("signal", number, flush=True)
        sys.exit(7)
    signal.signal(signal.SIGTERM, stop)
    open(words[0], "w").write(str(os.getpid()))
    deadline = time.process_time() + float(words[1]) if len(words) > 1 else None
    while deadline is None or time.process_time() < deadline:
        deadline or time.sleep(0.01)
"""
"""A module of a package of the repository's name, in a folder of its own."""


@pytest.fixture(scope="module")
def workflow() -> Iterator[subprocess.Popen[bytes]]:
    """The server of this process, whose environment is that of a workflow until the end of these tests."""
    environment = dict(os.environ)
    # A shell that starts the tests in the background lets them ignore it, and commands inherit that.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = start.benchmark.BenchmarkTimer
    os.environ.update(PYTHONHASHSEED="0", HF_HUB_OFFLINE="1", PYTHONPATH=str(ROOT))
    for name in [name for name in os.environ if name.startswith("PYTEST")]:
        del os.environ[name]
    server = start.start()
    yield server
    server.kill()
    start.benchmark.BenchmarkTimer = timer
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, interrupt)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with the probe."""
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper/__init__.py").touch()
    (tmp_path / "paper/probe.py").write_text(PROBE)
    return tmp_path


def job_environment(warm: bool = True, **more: str) -> dict[str, str]:
    """The environment of a job of the workflow; without the warm process, that of a person."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST")}
    environment |= start.ONE_THREAD | more
    if not warm:
        environment["PATH"] = environment["PATH"].removeprefix(f"{start.BIN}:")
        del environment[client.SOCKET.decode()], environment[client.PYTHON.decode()]
    return environment


def shell(
    command: str, folder: Path, warm: bool = True, text: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a shell command as a job."""
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail; {command}"],
        cwd=folder,
        env=job_environment(warm, **more),
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def look(folder: Path, warm: bool = True, before: str = "", text: str = "", **more: str) -> dict:
    """What the probe finds about its process."""
    run = shell(f"{before} python -m paper.probe look 'two words' é", folder, warm, text, **more)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture
def waiting(folder: Path) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """A client, and the child of the server that runs its command."""
    note = folder / "pid"
    command = ["python", "-m", "paper.probe", "wait", str(note)]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=job_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        yield run, until_written(note)
        run.kill()


def until_written(note: Path) -> psutil.Process:
    """The process that writes its number into a file."""
    wait_until(lambda: note.is_file() and note.read_text() != "")
    return psutil.Process(int(note.read_text()))


def wait_until(is_so, seconds: float = 60) -> None:
    """Wait for something that happens soon."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_ended(process: psutil.Process) -> bool:
    """Whether a process runs no more."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_command_in_a_child_finds_what_it_finds_by_itself(workflow, folder):
    settings = {"text": "three\nlines\n", "before": "umask 027; trap '' HUP;", "TMPDIR": str(folder), "C2C_OTHER": "1"}
    warm, alone = look(folder, **settings), look(folder, warm=False, **settings)
    assert (warm.pop("warm"), alone.pop("warm")) == (True, False)
    assert warm.pop("random") != alone.pop("random")
    for looks in (warm, alone):
        # bash counts its own depth and names the program that it starts.
        looks["environ"] = {k: v for k, v in looks["environ"].items() if k not in ("_", "SHLVL")}
    added = {key: warm["environ"].pop(key) for key in set(warm["environ"]) - set(alone["environ"])}
    assert not any(key.startswith("C2C_WARM") for key in added)
    assert warm == alone


def test_nothing_of_a_command_reaches_the_next(workflow, folder):
    first = shell(
        'umask 077; python -m paper.probe end \'import os, c2c; os.environ["LEFT"] = "1"; os.chdir("/")\'', folder
    )
    assert first.returncode == 0
    looks = [look(folder) for _ in range(2)]
    assert looks[0]["random"] != looks[1]["random"]
    assert all("LEFT" not in found["environ"] and found["folder"] == str(folder) for found in looks)
    assert all(found["umask"] == os_umask() and found["open"] == looks[0]["open"] for found in looks)


def os_umask() -> int:
    """The umask of this process."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    "end",
    [
        "pass",
        "sys.exit(2)",
        "sys.exit('why')",
        "sys.exit(None)",
        "os._exit(5)",
        "raise SystemExit(300)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.kill(os.getpid(), signal.SIGTERM)",
        "import atexit; atexit.register(print, 'at exit')",
        "import threading; threading.Timer(0.1, print, ['of a thread']).start()",
        "1 / 0",
    ],
)
def test_a_command_in_a_child_ends_as_it_ends_by_itself(workflow, folder, end):
    runs = [shell(f"python -m paper.probe end {json.dumps(end)}", folder, warm) for warm in (True, False)]
    assert runs[0].returncode == runs[1].returncode
    assert runs[0].stdout == runs[1].stdout
    # A traceback begins with the frames of what runs the module.
    assert (
        runs[0].stderr.splitlines()[0] == "on stderr"
        and runs[0].stderr.splitlines()[-1] == runs[1].stderr.splitlines()[-1]
    )


def test_the_command_line_of_the_package_runs_in_a_child_with_its_own_name(workflow, folder):
    runs = [shell("c2c score --records none.parquet --output scores.csv", folder, warm) for warm in (True, False)]
    assert runs[0].returncode == runs[1].returncode == 2 and runs[0].stderr == runs[1].stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_command(workflow, waiting, number):
    run, child = waiting
    run.send_signal(number)
    output, errors = run.communicate(timeout=60)
    wait_until(lambda: has_ended(child))
    if number == signal.SIGTERM:
        assert (run.returncode, output) == (7, f"signal {int(number)}\n")
    else:
        assert run.returncode != 0 and errors.rstrip().endswith("KeyboardInterrupt")


def test_a_command_is_killed_with_its_client(workflow, waiting):
    run, child = waiting
    assert child.name() == f"{NAME}{run.pid}"
    run.kill()
    wait_until(lambda: has_ended(child))


def test_commands_run_at_the_same_time(workflow, folder, waiting):
    assert look(folder)["warm"]
    assert waiting[0].poll() is None


@pytest.mark.parametrize(
    "before",
    [
        "HF_HUB_OFFLINE=0",
        "OMP_NUM_THREADS=2",
        "ulimit -n 512;",
        "exec 7</dev/null;",
        "PYTHONPATH=/nowhere",
    ],
)
def test_a_command_that_a_child_cannot_be_runs_by_itself(workflow, folder, before):
    assert not look(folder, before=before)["warm"]


@pytest.mark.parametrize("end", ["-c 'import sys; print(\"torch\" in sys.modules)'", "-m json.tool --help"])
def test_programs_of_others_run_by_themselves(workflow, folder, end):
    runs = [shell(f"python {end}", folder, warm) for warm in (True, False)]
    assert runs[0].stdout == runs[1].stdout and "True" not in runs[0].stdout


def test_without_a_server_a_command_runs_by_itself(workflow, folder):
    assert not look(folder, C2C_WARM_SOCKET="c2c-warm-nobody")["warm"]


def test_packages_that_were_installed_since_are_not_those_of_a_child():
    here = Surroundings.read()
    request = Request(
        os.fsencode(Path(sys.executable).with_name("python")), [], dict(os.environb), b"/", 0, [], here.state
    )
    assert here.allow(request)
    older = {path: time - 1 for path, time in here.installed.items()}
    assert not Surroundings(here.environment, here.state, older).allow(request)
    assert not here.allow(request._replace(program=b"/elsewhere/bin/python"))


def test_another_user_of_the_machine_is_neither_waited_for_nor_sent_anything(monkeypatch):
    message = client.request(b"python", [], {b"HF_TOKEN": b"secret"})
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    # The server: a client that says nothing
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(server, "READ_S", 60)
    started = time.monotonic()
    with ours, theirs:
        assert server._receive(ours) is None
    assert time.monotonic() - started < 30
    # The client: a socket that has the server's name
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as connection:
        name = f"c2c-test-{os.getpid()}"
        listener.bind(f"\0{name}")
        listener.listen(1)
        assert client.ask(connection, name.encode(), message) == []
        connection.close()
        assert listener.accept()[0].recv(1) == b""


def test_a_request_that_comes_in_parts_is_read_whole():
    message = client.request(b"python", ["x" * 500_000], {})
    ours, theirs = socket.socketpair()

    def send() -> None:
        socket.send_fds(theirs, [client.LENGTH.pack(len(message))], client.STANDARD_FILES)
        theirs.sendall(message)

    with ours, theirs:
        sender = threading.Thread(target=send)
        sender.start()
        command = server._receive(ours)
        sender.join(timeout=60)
    assert command is not None and len(command.request.arguments[0]) == 500_000
    for number in command.files:
        os.close(number)


def test_a_server_that_cannot_fork_lets_the_command_run_by_itself_and_serves_the_next(monkeypatch):
    here = Surroundings.read()
    program = os.fsencode(Path(sys.executable).with_name("python"))

    def fail() -> int:
        raise BlockingIOError("no room for another process")

    monkeypatch.setattr(os, "fork", fail)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as connection:
        name = f"c2c-test-{os.getpid()}"
        listener.bind(f"\0{name}")
        listener.listen(1)
        handles: list[list[int]] = []
        message = client.request(program, [], dict(os.environb))
        sender = threading.Thread(target=lambda: handles.append(client.ask(connection, name.encode(), message)))
        sender.start()
        workflow_handle = os.pidfd_open(os.getpid())
        assert server.Server(listener, workflow_handle, here)._accept() is None
        sender.join(timeout=60)
        os.close(workflow_handle)
    assert handles == [[]]


def test_no_server_is_started_where_the_system_has_no_pidfds_as_macos(monkeypatch):
    workflow = SimpleNamespace(
        executor_plugin=SimpleNamespace(common_settings=SimpleNamespace(non_local_exec=False)),
        deployment_settings=SimpleNamespace(deployment_method=set()),
    )
    monkeypatch.setattr(start, "GPUS", ())
    assert start.can_start(workflow)
    monkeypatch.delattr(os, "pidfd_open")
    assert not start.can_start(workflow)


def test_the_processor_time_of_a_child_is_the_jobs(workflow, folder):
    note = folder / "pid"
    command = f"python -m paper.probe wait {note} 3"
    record = BenchmarkRecord(jobid=1)
    with subprocess.Popen(
        ["bash", "-c", f"set -e; {command}; true"], cwd=folder, env=job_environment(), stdin=subprocess.DEVNULL
    ) as run:
        timer = start.benchmark.BenchmarkTimer(run.pid, record, 1)
        child = until_written(note)
        wait_until(lambda: has_ended(child) or sum(child.cpu_times()[:2]) > 1)
        timer.work()
        assert run.wait(timeout=60) == 0
    assert record.cpu_time > 0.9 and record.max_rss > 100


def test_a_workflow_runs_its_jobs_in_children_and_leaves_no_process(folder):
    (folder / "Snakefile").write_text(
        f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from workflow.warm import start
onstart:
    assert start.can_start(workflow) or start.GPUS
    start.start()
rule probe:
    output: "looks.json"
    log: "log"
    benchmark: "benchmark.tsv"
    shell: "python -m paper.probe look > {{output}} 2> {{log}}"
"""
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    run = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads((folder / "looks.json").read_text())["warm"]
    assert not [process for process in psutil.process_iter() if is_server_below(process, folder)]


def is_server_below(process: psutil.Process, folder: Path) -> bool:
    """Whether a process is a server that was started in a folder."""
    try:
        return "workflow.warm.server" in process.cmdline() and process.cwd() == str(folder) and not has_ended(process)
    except psutil.Error:
        return False


def test_a_server_and_its_children_end_with_the_workflow(folder):
    # A process that starts a server and a command, and is killed.
    program = """
import os, subprocess, sys, time
from workflow.warm import start
server = start.start()
command = ["python", "-m", "paper.probe", "wait", "pid"]
subprocess.Popen(command, env={**os.environ, **start.ONE_THREAD}, stdin=subprocess.DEVNULL)
print(server.pid, flush=True)
time.sleep(600)
"""
    starter = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    server = psutil.Process(int(starter.stdout.readline()))
    child = until_written(folder / "pid")
    assert child.ppid() == server.pid
    starter.kill()
    starter.wait()
    wait_until(lambda: has_ended(server) and has_ended(child))


def test_a_server_imports_no_code_of_the_repository_and_starts_no_thread(workflow, folder):
    assert not {name.partition(".")[0] for name in PACKAGES} & {"benchmarks", "c2c", "paper", "workflow"}
    look(folder)
    assert psutil.Process(workflow.pid).num_threads() == 1


def test_the_client_imports_what_starts_quickly():
    text = Path(client.__file__).read_text()
    imports = {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imports == {"marshal", "os", "resource", "signal", "socket", "struct", "sys"}


def test_every_record_of_a_child_is_the_same_file(workflow, folder):
    output = folder / "world.json"
    settings = "--entities 32 --attributes 2 --values 4 --seed 0 --benchmarks data --training-set lines"
    command = f"python -m benchmarks.world.make {settings} --output {output}"
    hashes = []
    (folder / "paper/probe.py").unlink()
    for warm in (True, False):
        run = shell(command, folder, warm)
        assert run.returncode == 0, run.stderr
        hashes.append((file_hash(output), file_hash(folder / "lines/train.jsonl")))
    assert hashes[0] == hashes[1]
