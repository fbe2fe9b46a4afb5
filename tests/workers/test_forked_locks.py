"""Locks that another thread of the script holds when workers are forked: no worker waits for one of them."""

import os

import pytest

HOGS = """
import io, logging, os, sys, threading, time
import cloudpickle, numpy
from job_stream import Work
from job_stream.memory.mappings import mappings

KINDS, STREAMS, FOLDER = set(sys.argv[1].split()), int(sys.argv[2]), sys.argv[3]
sys.path.insert(0, FOLDER)
with open(f'{FOLDER}/slowly_imported.py', 'w') as file:
    file.write('import time\\ntime.sleep(0.02)\\nvalue = 3\\n')

class Slow(io.FileIO):
    # What the threads write takes its time, and then is dropped: a test that hangs does not fill the disk.

    def write(self, data):
        if bytes(data).startswith(b'<job>'):
            return super().write(data)
        time.sleep(5e-3)
        return len(data)

def slow(file):
    return io.TextIOWrapper(io.BufferedWriter(Slow(file, 'w')))

if 'stdout' in KINDS:
    sys.stdout = slow(1)
if 'stderr' in KINDS:
    sys.stderr = slow(2)
logger = logging.getLogger('mine')
logger.setLevel(logging.INFO)
logger.addHandler(logging.StreamHandler(slow(f'{FOLDER}/log')))

def hold_mappings():
    with mappings._lock:
        time.sleep(1e-3)

def import_again():
    import slowly_imported
    sys.modules.pop('slowly_imported', None)

def pickle_classes():
    with cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_LOCK:
        time.sleep(1e-3)

def make_class():
    class Local:
        pass
    return Local

long = 'x' * 3000
hogs = {
    'numpy': lambda: numpy.random.rand(1_000_000),
    'stdout': lambda: print(long, flush=True),
    'stderr': lambda: print(long, file=sys.stderr, flush=True),
    'stdin': lambda: sys.stdin.readline(),
    'logging': lambda: logger.info(long),
    'mappings': hold_mappings,
    'imports': import_again,
    'cloudpickle': pickle_classes,
}

def keep_on(hog):
    while True:
        hog()

for kind in KINDS:
    threading.Thread(target=keep_on, args=(hogs[kind],), daemon=True).start()

def job(array):
    if 'numpy' in KINDS:
        numpy.random.rand()
    if 'imports' in KINDS:
        import slowly_imported
        assert slowly_imported.value == 3
    if 'stdout' in KINDS:
        print('<job>')
    if 'stderr' in KINDS:
        print('<job>', file=sys.stderr)
    if 'logging' in KINDS:
        logger.info('<job>')
    if 'cloudpickle' in KINDS:
        cloudpickle.dumps(make_class())
    return array.sum()

for number in range(STREAMS):
    w = Work(iter([numpy.ones(1 << 18)] * 3), cpus=2)
    w.job(job)
    assert w.run() == [1 << 18] * 3
os._exit(0)
"""
KINDS = ["numpy", "stdout", "stderr", "stdin", "logging", "mappings", "imports", "cloudpickle"]


@pytest.fixture
def stdin(monkeypatch):
    """A standard input of scripts on which nothing ever comes."""
    ours, theirs = os.pipe()
    monkeypatch.setattr("support.subprocess.DEVNULL", ours)
    yield
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(
    ("kinds", "streams"), [*((kind, 12) for kind in KINDS), (" ".join(KINDS), 6)], ids=[*KINDS, "all"]
)
def test_no_worker_waits_for_a_lock_that_a_thread_held(start, stdin, tmp_path, kinds, streams):
    ended = start(HOGS, kinds, streams, tmp_path).ended()
    assert ended.code == 0, ended.err[-3000:]
    if "stdout" in kinds:
        assert ended.out.count("<job>") == 3 * streams
    if "logging" in kinds:
        assert (tmp_path / "log").read_text().count("<job>") == 3 * streams


def test_what_threads_print_meanwhile_is_printed_once(start):
    """It may still lie in a buffer when workers are forked, which they inherit."""
    ended = start("""
        import io, sys, threading, time
        from job_stream import Work

        class Slow(io.FileIO):
            def write(self, data):
                time.sleep(2e-3)  # others get their turn meanwhile
                return super().write(data)

        sys.stdout = io.TextIOWrapper(io.BufferedWriter(Slow(1, 'w')))
        is_over = threading.Event()
        numbers = iter(range(2 * 10**6))  # it has an end, so that a test that hangs does not fill the disk

        def tell():
            while not is_over.is_set():
                for number in numbers:
                    print(f'<{number}>')
                    if is_over.is_set():
                        break

        thread = threading.Thread(target=tell)
        thread.start()
        for _ in range(10):
            w = Work(range(4), cpus=2)
            w.job(lambda work: print('job') or work)
            w.run()
        is_over.set()
        thread.join()
        print('through', next(numbers, 2 * 10**6))
    """).ended()
    assert ended.code == 0, ended.err
    *lines, last = ended.out.splitlines()
    assert last == f"through {len(lines) - 40}"
    assert lines.count("job") == 40
    assert len(set(lines)) == len(lines) - 39


def test_a_module_whose_import_never_ends_elsewhere_can_be_imported_by_jobs(start, tmp_path):
    """An import of a server, for example, whose top level serves."""
    (tmp_path / "serving.py").write_text(
        "import os, threading\n"
        "if os.getpid() == int(os.environ['SERVER']):\n"
        "    import job_stream\n"
        "    job_stream.begun.set()\n"
        "    threading.Event().wait()\n"
        "value = 3\n"
    )
    ended = start("""
        import os, threading
        import job_stream

        os.environ['SERVER'] = str(os.getpid())
        job_stream.begun = threading.Event()
        threading.Thread(target=__import__, args=('serving',), daemon=True).start()
        job_stream.begun.wait()

        def use(work):
            import serving
            return serving.value

        print(job_stream.map(use, range(3)), flush=True)
        os._exit(0)
    """).ended()
    assert (ended.code, ended.out) == (0, "[3, 3, 3]\n"), ended.err
