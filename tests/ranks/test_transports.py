"""Transports keep their promises: order, size, never blocking, and an end that is seen, under each MPI there is, and
over sockets where the others live on when a rank dies.

JOBS_TEST_DEATHS=50 asks for that many deaths at random moments, of each kind, instead of a few; JOBS_TEST_SEED gives
other moments.
"""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from typing import Any

import pytest
from mpi_support import MPICH, World, find_mpirun, is_open_mpi, mpirun
from support import PROMPT_S, Gate, wait_until

from job_stream.errors import EngineError
from job_stream.ranks.local import LocalTransport
from job_stream.ranks.pieces import cut_up
from job_stream.ranks.transport import Transport

DEATHS = int(os.environ.get("JOBS_TEST_DEATHS", "1"))
SEED = int(os.environ.get("JOBS_TEST_SEED", "1"))
NETWORK = "TEST_NETWORK"

PRELUDE = f"""
import os, signal, sys, time, atexit
from pathlib import Path
from job_stream.ranks import world as worlds
from job_stream.ranks.transport import Left, Lost, Received
from job_stream.ranks.sockets import SocketTransport
from job_stream.ranks.world import rank_of, world

def through_a_network(mpi, grant, one_host):
    # Ranks whose hosts have other names do not meet on one.
    return SocketTransport(mpi, grant._replace(host=f"host {{rank_of()}}"), ["192.0.2.1", "127.0.0.1"])

if "{NETWORK}" in os.environ:
    worlds._with_sockets = through_a_network
"""
PRELUDE += """

def room(size):
    body = bytearray(size)
    return memoryview(body), body

def poll_until(transport, happened):
    news = []
    while not happened(news):
        news += transport.poll(room)
        time.sleep(0 if transport.busy else 0.0005)
    return news

def receive(transport, count):
    return poll_until(transport, lambda news: len(news) >= count)

inboxes = {}

def take(transport, rank, count):
    # Those of other ranks wait for their turn.
    inbox = inboxes.setdefault(transport, [[] for _ in range(transport.size)])
    while len(inbox[rank]) < count:
        for message in transport.poll(room):
            inbox[message.rank].append(message)
        time.sleep(0 if transport.busy else 0.0005)
    taken, inbox[rank] = inbox[rank][:count], inbox[rank][count:]
    return taken

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""

with_open_mpi = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)


@pytest.fixture(params=["this MPI", "MPICH"])
def python(request):
    """The python of each environment with an MPI."""
    return _python(request.param)


def _python(library: str) -> str:
    if library == "MPICH" and not os.environ.get(MPICH):
        pytest.skip(f"{MPICH} does not name the python of an environment with MPICH")
    program = os.environ[MPICH] if library == "MPICH" else sys.executable
    if find_mpirun(program) is None:
        pytest.skip("there is no mpirun")
    return program


SOCKETS: dict[str, dict[str, Any]] = {
    "sockets of a host": {"ulfm": True},
    "sockets through a network": {"ulfm": True, "env": {NETWORK: "1"}},
}


@pytest.fixture(params=["this MPI", "MPICH", *SOCKETS])
def way(request):
    """How ranks are started that exchange messages in each of the ways there are."""
    if request.param not in SOCKETS:
        return {"python": _python(request.param)}
    if find_mpirun() is None or not is_open_mpi(str(find_mpirun())):
        pytest.skip("Open MPI is not installed")
    return SOCKETS[request.param]


@pytest.fixture
def script(tmp_path):
    def write(source: str):
        path = tmp_path / "script.py"
        path.write_text(PRELUDE + textwrap.dedent(source))
        return path

    return write


# --- the seam -----------------------------------------------------------------------------------------------------
CONFORMANCE = """
from job_stream.ranks.cpus import own_grant
from job_stream.ranks.meeting import start
from job_stream.ranks.mpi import MpiTransport

usual = world()
tiny = usual if usual.recovers else MpiTransport(start(), own_grant(), piece_bytes=1000)
SIZES = [[], [0], [1], [0, 7, 0], [5] * 100, [32768], [32769], [70000, 3, 3, 0, 70000], [300000] * 3, [9_000_001]]

def content(sender, number, sizes):
    return [bytes([(sender + number + i) % 256]) * size for i, size in enumerate(sizes)]

def others(transport):
    return [rank for rank in range(transport.size) if rank != transport.rank]

def exchange(transport):
    for number, sizes in enumerate(SIZES):
        for rank in others(transport):
            transport.send(rank, b"%d" % number * (40000 if number == 3 else 1), content(transport.rank, number, sizes))
    for rank in others(transport):
        messages = take(transport, rank, len(SIZES))
        for number, (message, sizes) in enumerate(zip(messages, SIZES, strict=True)):
            assert message.head == b"%d" % number * (40000 if number == 3 else 1), (message.head[:20], number)
            expected = b"".join(content(rank, number, sizes))
            assert (bytes(message.body) if message.body is not None else b"") == expected, (rank, number)
            assert (message.body is None) == (not expected)

def flood(transport, count, size):
    body = bytes(size)
    for number in range(count):
        for rank in others(transport):
            transport.send(rank, b"%d" % number, [body])
    for rank in others(transport):
        assert [int(message.head) for message in take(transport, rank, count)] == list(range(count))

def released(transport):
    import array, weakref
    class Kept: pass
    kept = Kept()
    seen, body = weakref.ref(kept), array.array("d", range(100000))
    transport.send(others(transport)[0], b"", [memoryview(body)], kept)
    del kept
    senders = {0: (1, 2), 1: (0,), 2: ()}[transport.rank]
    for rank in senders:
        take(transport, rank, 1)
    while transport.busy:
        assert all(type(news) is Left for news in transport.poll(room))
    assert seen() is None

assert [peer.pid for peer in usual.peers][usual.rank] == os.getpid()
assert all(peer.cpus >= 1 and peer.host for peer in usual.peers) and len(usual.peers) == usual.size == 3
exchange(usual)
exchange(tiny)
flood(usual, 2000, 0)
flood(usual, 500, 1000)
flood(usual, 40, 200_000)
released(usual)
assert usual.recovers == (sys.argv[1] == "True")
say("fine")
"""


@pytest.mark.xdist_group("memory")
def test_messages_of_all_sizes_come_whole_and_in_order(script, way):
    ended = mpirun(script(CONFORMANCE), 3, "ulfm" in way, **way)
    assert (ended.code, ended.out.split()) == (0, ["fine"] * 3), ended.err


def test_a_message_larger_than_a_count_of_32_bits_is_cut_up():
    pieces = list(cut_up([memoryview(bytearray(2500))], 1000))
    assert [len(piece) for piece in pieces] == [1000, 1000, 500]


def test_only_small_neighbours_are_copied_together():
    large = bytearray(100_000)
    pieces = list(cut_up([memoryview(b"a"), memoryview(b"b"), memoryview(large), memoryview(b"c")], 1 << 20))
    assert [len(piece) for piece in pieces] == [2, 100_000, 1]
    assert isinstance(pieces[1], memoryview)
    assert pieces[1].obj is large


def test_many_small_buffers_make_few_pieces_whose_sizes_add_up():
    pieces = list(cut_up([memoryview(bytes(20_000))] * 1000, 1 << 29))
    assert sum(map(len, pieces)) == 20_000_000
    assert len(pieces) < 25


# --- a world of one -----------------------------------------------------------------------------------------------
def test_a_process_alone_has_nobody_to_talk_to():
    transport: Transport = LocalTransport(3)
    assert (transport.rank, transport.size, transport.recovers, transport.busy) == (0, 1, False, False)
    assert transport.peers[0].cpus == 3
    assert transport.poll(lambda size: (memoryview(bytearray(size)), None)) == []
    with pytest.raises(EngineError):
        transport.send(1, b"")


def test_a_process_alone_needs_neither_mpi_nor_numpy(start):
    script = start(
        """
        import sys
        from job_stream.ranks.world import world
        world()
        print(sorted({"mpi4py", "numpy"} & set(sys.modules)))
        """
    )
    assert script.ended().out == "[]\n"


def test_a_rank_that_takes_nothing_up_does_not_keep_the_others_from_talking(script, way, tmp_path):
    awake = tmp_path / "awake"
    ended = mpirun(
        script(
            """
            awake = Path(sys.argv[1])
            transport = world()
            sizes = [(70_000, 10, 20_000)[i % 3] for i in range(1500)]
            if transport.rank == 0:
                for i, size in enumerate(sizes):
                    transport.send(2, b"%d" % i, [bytes(size)])
                for i in range(20):
                    transport.send(1, b"", [bytes(3_000_000)])
                take(transport, 1, 1)
                awake.touch()
            elif transport.rank == 1:
                take(transport, 0, 20)
                transport.send(0, b"heard")
            else:
                while not awake.exists():
                    time.sleep(0.005)
                for i, message in enumerate(take(transport, 0, len(sizes))):
                    assert (int(message.head), len(message.body)) == (i, sizes[i]), (i, message.head)
                say("in order")
            """
        ),
        3,
        awake,
        **way,
    )
    assert (ended.code, ended.out) == (0, "in order\n"), ended.err


# --- deaths -------------------------------------------------------------------------------------------------------
@with_open_mpi
@pytest.mark.parametrize("way", SOCKETS.values(), ids=SOCKETS)
@pytest.mark.parametrize("btl", ["sm,self", "tcp,self"])
def test_the_death_of_a_rank_is_reported_once_and_the_others_go_on(script, way, btl):
    ended = mpirun(
        script(
            """
            transport = world()
            assert transport.recovers
            if transport.rank == 3:
                for number in range(50):
                    transport.send(0, b"%d" % number)
                transport.send(1, b"large", [bytes(100_000_000)])
                end = time.monotonic() + 0.2
                while time.monotonic() < end:
                    transport.poll(room)
                os.kill(os.getpid(), signal.SIGKILL)
            news = []
            if transport.rank == 2:
                while transport.busy or not any(type(n) is Lost for n in news):
                    transport.send(3, b"to the dead", [bytes(1_000_000)])
                    news += transport.poll(room)
            else:
                news = poll_until(transport, lambda news: any(type(n) is Lost for n in news))
            early = [n for n in news if n.rank != 3]
            news = [n for n in news if n.rank == 3]
            assert news[-1] == Lost(3), news[-1]
            if transport.rank == 0:
                assert [int(n.head) for n in news[:-1]] == list(range(50)), news
            transport.send(3, b"dropped")
            body = bytes(3_000_000)
            for turn in range(20):
                for rank in range(3):
                    if rank != transport.rank:
                        transport.send(rank, b"", [body])
            def all_have_come(news):
                return sum(type(n) is Received for n in early + news) == 40
            later = early + poll_until(transport, all_have_come)
            assert all(type(n) in (Received, Left) for n in later), [n for n in later if type(n) is Lost]
            end = time.monotonic() + 0.6
            while time.monotonic() < end:
                assert all(type(n) is Left for n in transport.poll(room))
            say("fine")
            """
        ),
        4,
        options=("--mca", "btl", btl),
        **way,
    )
    assert (ended.code, ended.out.split()) == (0, ["fine"] * 3), ended.err


DEATH = """
import random, threading

random.seed(sys.argv[1])
victim, delay = random.randrange(1, 4), random.random() * float(sys.argv[2])
MESSAGES, LARGEST, UNDER_WAY = 8, 100_000_000, 6
sizes = {
    (sender, rank): [int(1000 * (LARGEST / 1000) ** random.random()) for _ in range(MESSAGES)]
    for sender in range(4) for rank in range(4)
}
transport = world()
me = transport.rank
others = [rank for rank in range(4) if rank != me]
content = random.Random(me).randbytes(1000) * (LARGEST // 1000)
their = {rank: random.Random(rank).randbytes(1000) * (LARGEST // 1000) for rank in others}
sent, heard, lost = dict.fromkeys(others, 0), dict.fromkeys(others, 0), []

def send_more(rank):
    # As many as the other has said to have; a small message answers each large one.
    number = sent[rank]
    if number < MESSAGES and rank not in lost:
        transport.send(rank, b"large %d" % number, [memoryview(content)[: sizes[me, rank][number]]])
        sent[rank] += 1

def take_news(news):
    if type(news) is Lost:
        assert news.rank == victim and news.rank not in lost, news
        lost.append(news.rank)
    elif type(news) is Received:
        assert news.rank not in lost, "a word of the dead"
        word, _, number = news.head.partition(b" ")
        if word == b"large":
            assert int(number) == heard[news.rank], (news.head, heard)
            assert news.body == their[news.rank][: sizes[news.rank, me][heard[news.rank]]], "another body"
            heard[news.rank] += 1
            transport.send(news.rank, b"got")
        else:
            send_more(news.rank)

if me == victim:
    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
for rank in others:
    for _ in range(UNDER_WAY):
        send_more(rank)
survivors = [rank for rank in others if rank != victim]
while me == victim or not lost or any(heard[rank] < MESSAGES for rank in survivors):
    for news in transport.poll(room):
        take_news(news)
    time.sleep(0 if transport.busy else 0.0005)
say("went on")
"""


@with_open_mpi
@pytest.mark.parametrize("number", range(DEATHS))
@pytest.mark.parametrize("btl", ["sm,self", "tcp,self"])
@pytest.mark.parametrize("way", SOCKETS.values(), ids=SOCKETS)
def test_messages_of_all_sizes_between_survivors_come_whole_whenever_a_rank_dies(script, way, btl, number):
    with World(script(DEATH), 4, SEED + number, 0.5, options=("--mca", "btl", btl), **way) as ranks:
        ended = ranks.ended()
        ranks.gone()
    assert (ended.code, ended.out.split("\n")) == (0, [*["went on"] * 3, ""]), ended.err


@pytest.mark.parametrize("way", SOCKETS.values(), ids=SOCKETS)
@with_open_mpi
def test_what_has_been_sent_arrives_though_its_sender_has_other_things_to_do(script, way, tmp_path):
    ended = mpirun(
        script(
            """
            transport, heard = world(), Path(sys.argv[1], "heard")
            if transport.rank == 0:
                transport.send(1, b"", [bytes(20_000_000)])
                while not heard.exists():
                    time.sleep(0.005)
                say("heard")
            else:
                receive(transport, 1)
                heard.touch()
            """
        ),
        2,
        tmp_path,
        **way,
    )
    assert (ended.code, ended.out) == (0, "heard\n"), ended.err


@pytest.mark.parametrize("way", SOCKETS.values(), ids=SOCKETS)
@with_open_mpi
def test_a_rank_whose_connections_break_is_given_up_by_those_before_it(script, way):
    ended = mpirun(
        script(
            """
            transport = world()
            if transport.rank == 1:
                transport.send(2, b"", [bytes(1_000_000)])
                receive(transport, 1)
                (line,) = [channel.outgoing for channel in transport._channels if channel.rank == 2]
                line._socket.close()
                transport.send(2, b"in vain")
            elif transport.rank == 2:
                transport.send(1, b"")
            poll_until(transport, lambda news: Lost(2) in news)
            say(transport.rank, transport.expelled)
            if transport.rank == 2:
                transport.abort()
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                assert all(type(n) is Left for n in transport.poll(room))
            """
        ),
        3,
        **way,
    )
    assert (ended.code, sorted(ended.out.splitlines())) == (0, ["0 False", "1 False", "2 True"]), ended.err


def test_a_rank_given_up_is_not_heard_of_again(script, way):
    ended = mpirun(
        script(
            """
            transport = world()
            if transport.rank == 0:
                transport.send(1, b"", [bytes(50_000_000)])
                transport.give_up(1)
                assert not transport.busy
                transport.send(1, b"dropped")
                end = time.monotonic() + 0.3
                while time.monotonic() < end:
                    assert not transport.poll(room)
                say("fine")
                transport.abort()
            transport.send(0, b"hello", [bytes(50_000_000)])
            receive(transport, 1000)
            """
        ),
        2,
        **way,
    )
    assert "fine" in ended.out, ended.err


@pytest.mark.parametrize("messages", [0, 50])
def test_a_rank_that_one_has_given_up_is_lost_for_all_and_hears_of_it(script, way, tmp_path, messages):
    said = tmp_path / "said"
    said.mkdir()
    ended = mpirun(
        script(
            """
            transport = world()
            said, count = Path(sys.argv[1]), int(sys.argv[2])
            if transport.rank == 0:
                for _ in range(count):
                    transport.send(1, b"", [bytes(1_000_000)])
                transport.give_up(1)
                (said / "given up").touch()
            else:
                while transport.rank == 1 and not (said / "given up").exists():
                    time.sleep(0.005)
                poll_until(transport, lambda news: Lost(1) in news)
            (said / f"{transport.rank} {transport.expelled}").touch()
            poll_until(transport, lambda news: transport.rank == 0 and len(list(said.iterdir())) == 4)
            transport.abort()
            """
        ),
        3,
        said,
        messages,
        **way,
    )
    assert {path.name for path in said.iterdir()} == {"given up", "0 False", "1 True", "2 False"}, ended.err


# --- the end ------------------------------------------------------------------------------------------------------
LEAVING = """
def spent():
    waited, used = time.monotonic() - ended[0], time.process_time() - ended[1]
    say("used" if used < 0.1 * waited else f"burnt {used:.2f} of {waited:.2f} s")

if sys.argv[1:] == ["early"]:
    atexit.register(spent)
transport = world()
if transport.rank == 1:
    transport.send(0, b"last words", [bytes(5_000_000)])
else:
    left = [n for n in poll_until(transport, lambda news: Left(1) in news)]
    if transport.rank == 0:
        assert left[0].head == b"last words" and len(left[0].body) == 5_000_000 and left[1:] == [Left(1)], left[1:]
    transport.send(1, b"dropped", [bytes(5_000_000)])
    time.sleep(1.5)
    say("left")
ended = time.monotonic(), time.process_time()
if transport.rank != 1:
    atexit.unregister(spent)
"""


def test_a_rank_that_ends_early_is_reported_and_waits_asleep(script, way):
    ended = mpirun(script(LEAVING), 3, "early", **way)
    assert (ended.code, sorted(ended.out.splitlines())) == (0, ["left", "left", "used"]), ended.err


@pytest.mark.parametrize("way", ["quietly", "failing"])
def test_a_rank_that_ends_before_it_has_joined_does_not_block_the_others(script, python, way):
    with World(
        script(
            """
            from job_stream.ranks.world import rank_of
            if rank_of() == 1:
                sys.exit() if sys.argv[1] == "quietly" else 1 / 0
            transport = world()
            poll_until(transport, lambda news: Left(1) in news)
            say("went on")
            """
        ),
        3,
        way,
        python=python,
    ) as ranks:
        ended = ranks.ended(PROMPT_S * 2)
        assert (ended.code == 0, ended.out.count("went on")) == ((True, 2) if way == "quietly" else (False, 0))
        ranks.gone()


def test_an_exception_of_one_rank_ends_all(script, python):
    with World(
        script(
            """
            transport = world()
            if transport.rank == 1:
                raise ValueError("mine alone")
            receive(transport, 1000)
            """
        ),
        3,
        python=python,
    ) as ranks:
        ended = ranks.ended()
        assert ended.code != 0
        assert ended.err.count("ValueError: mine alone") == 1
        ranks.gone()


def test_a_process_that_mpi_does_not_end_ends(start):
    script = start(
        """
        import ctypes
        from job_stream.ranks.base import _end_within
        _end_within(0.01)
        ctypes.PyDLL(None).pause()  # waits for ever, and lets no other thread run Python
        """
    )
    assert script.ended() == (1, "", "")


@pytest.mark.parametrize("missing", [False, True], ids=["all raise it", "one does not come"])
def test_an_exception_of_all_ranks_is_printed_once(script, missing):
    with World(
        script(
            """
            transport = world()
            error = ValueError("ours")
            error._job_stream_shared = True
            if transport.rank == 2 and sys.argv[1] == "True":
                receive(transport, 1000)
            raise error
            """
        ),
        3,
        missing,
    ) as ranks:
        ended = ranks.ended()
        assert ended.code != 0
        assert ended.err.count("ValueError: ours") == 1
        assert ended.err.count("Traceback") == 1
        ranks.gone()


def test_an_interrupt_ends_all_ranks(script, python, tmp_path):
    path = script(
        """
        transport = world()
        Path(sys.argv[1], f"rank{transport.rank}").touch()
        receive(transport, 1000)
        """
    )
    with World(path, 3, tmp_path, python=python) as ranks:
        for rank in range(3):
            Gate(tmp_path / f"rank{rank}").wait()
        ranks.process.send_signal(signal.SIGINT)
        wait_until(lambda: ranks.process.poll() is not None, "mpirun to end", 30)
        assert ranks.process.returncode != 0
        ranks.gone()
