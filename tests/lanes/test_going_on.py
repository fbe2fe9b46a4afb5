"""Work that goes on after a death, where user code does not do the same the second time; and what cannot be read."""

import time

import pytest
from support import die, whole_text

from job_stream import Multiple, Work


def _refuse():
    raise ValueError("refused to be unpickled")


class ListThatRefuses(list):
    def __reduce__(self):
        return _refuse, ()


def long_multiple(once, second_time, **policy):
    """A stream whose worker dies in the middle of a long Multiple, which is then made again."""
    w = Work([7], cpus=1)

    @w.job(**policy)
    def many(work):
        if once.happened():
            second_time()
        return Multiple(number for number in range(1000))

    @w.job
    def slow(number):
        time.sleep(1e-3)
        if number == 500 and once():
            die()
        return number

    return w


def test_a_multiple_that_cannot_be_made_again_is_skipped(once):
    def fail():
        raise ValueError("second time")

    w = long_multiple(once, fail, onError="skip")
    results = w.run()
    assert sorted(results) == list(range(len(results)))
    assert [(failure.stage, failure.item) for failure in w.failures] == [("many", 7)]
    assert "second time" in w.failures[0].reason


def test_a_death_while_a_multiple_is_made_again_is_blamed_on_its_function(once):
    w = long_multiple(once, die, onError="skip")
    w.run()
    assert [(failure.stage, failure.item) for failure in w.failures] == [("many", 7)]
    assert "unpickling" not in w.failures[0].reason


@pytest.mark.parametrize("answer", [None, 5])
def test_an_emit_that_killed_once_may_emit_anything_then(once, answer):
    def emit(store):
        if once():
            die()
        return answer

    w = Work([7], cpus=1)

    @w.reduce(store=list, emit=emit)
    def gather(store, works, others):
        store += works

    assert w.run() == ([] if answer is None else [answer])
    assert once.happened()


def test_a_store_that_cannot_be_unpickled_is_an_error_that_names_its_stage():
    w = Work(range(8), cpus=2)

    @w.job
    def wait(work):
        time.sleep(1e-2)
        return work

    @w.reduce(store=ListThatRefuses, emit=len)
    def gather(store, works, others):
        store += works

    with pytest.raises(ValueError, match="refused to be unpickled") as raised:
        w.run()
    assert "target: gather" in whole_text(raised.value)
