"""rng(): with a seed, the numbers belong to the item and the stage, never to the process that did the work."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import die, gather, reduce_to_sum

import job_stream
from job_stream import Args, Multiple, Object, Work, rng
from job_stream.errors import PlanError

np = pytest.importorskip("numpy")


def draw():
    return int(rng().integers(1 << 62))


def draws_of_jobs(source=range(40), **keywords):
    w = Work(source, **keywords)
    w.job(lambda work: (work, draw()))
    return sorted(w.run())


def draws_of_everything(**keywords):
    """Numbers drawn at every place of a stream with drops, fan-out, frames, recurrence and a reduction."""
    w = Work(range(30), **keywords)

    @w.job
    def drop_and_fan_out(work):
        if work % 3:
            return Multiple(Args(work, [("job", draw())]) for _ in range(work % 4))

    @w.frame(store=lambda: Object(rounds=0, drawn=None), emit=lambda store: sorted(store.drawn))
    def loop(store, work, drawn):
        store.drawn = store.drawn or list(drawn)
        store.rounds += 1
        store.drawn.append(("frame", draw()))
        if store.rounds <= 2:
            return Multiple((work - i, []) for i in range(3))

    @w.job
    def inside(pair):
        left, drawn = pair
        if left % 5:
            return left, [*drawn, ("inside", draw())]

    @w.frameEnd
    def again(store, pair):
        left, drawn = pair
        store.drawn += [*drawn, ("end", draw())]
        if left > 12:
            return left // 2, []

    @w.job
    def after(drawn):
        return Multiple([*drawn, ("after", draw())])

    @w.reduce(store=list, emit=lambda store: Multiple([*sorted(store), ("emit", draw())]))
    def fold(store, works, others):
        gather(store, works, others)

    w.job(lambda pair: (*pair, draw()))
    return sorted(w.run(), key=str)


def test_the_generator_is_numpys():
    import numpy as np

    w = Work([1])
    w.job(lambda work: isinstance(rng(), np.random.Generator))
    assert w.run() == [True]


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_the_same_seed_gives_the_same_numbers_in_every_run(seed):
    assert draws_of_jobs(seed=seed, cpus=2) == draws_of_jobs(seed=seed, cpus=2)


def test_the_numbers_do_not_depend_on_how_many_processes_work():
    assert draws_of_jobs(seed=3, cpus=1) == draws_of_jobs(seed=3, cpus=2) == draws_of_jobs(seed=3, cpus=3)


def test_the_numbers_are_the_same_in_threads():
    assert draws_of_jobs(seed=3, cpus=2) == draws_of_jobs(seed=3, cpus=2, useMultiprocessing=False)


@pytest.mark.parametrize("cpus", [2, 3])
def test_numbers_at_every_place_of_a_stream_do_not_depend_on_how_many_processes_work(cpus):
    assert draws_of_everything(seed=7, cpus=1) == draws_of_everything(seed=7, cpus=cpus)


def test_numbers_at_every_place_of_a_stream_are_the_same_in_threads():
    assert draws_of_everything(seed=7, cpus=1) == draws_of_everything(seed=7, cpus=2, useMultiprocessing=False)


def test_numbers_at_every_place_of_a_stream_are_all_different():
    numbers = [number for row in draws_of_everything(seed=7, cpus=2) for number in row[1:]]
    assert len(numbers) > 500
    assert len(set(numbers)) == len(numbers)


def test_other_seeds_give_other_numbers():
    assert not set(draws_of_jobs(seed=1)) & set(draws_of_jobs(seed=2))


def test_without_a_seed_every_run_draws_other_numbers():
    assert not set(draws_of_jobs()) & set(draws_of_jobs())


def test_without_a_seed_items_draw_different_numbers_in_every_process():
    numbers = [number for _, number in draws_of_jobs(range(300), cpus=3)]
    assert len(set(numbers)) == 300


def test_equal_items_draw_different_numbers():
    numbers = [number for _, number in draws_of_jobs([5] * 100, seed=1)]
    assert len(set(numbers)) == 100


def test_equal_elements_of_a_multiple_draw_different_numbers():
    w = Work([0, 0], seed=1)
    w.job(lambda work: Multiple([5] * 50))
    w.job(lambda work: draw())
    assert len(set(w.run())) == 100


def test_elements_of_a_long_multiple_draw_the_same_numbers_however_it_is_taken():
    def numbers(cpus, kind):
        w = Work([0, 1], seed=1, cpus=cpus)
        w.job(lambda work: Multiple(kind(range(300))))
        w.job(lambda work: (work, draw()))
        return sorted(w.run())

    assert numbers(1, list) == numbers(2, list) == numbers(2, iter)
    assert len({number for _, number in numbers(2, iter)}) == 600


@pytest.mark.parametrize("kind", [list, iter])
def test_elements_that_are_none_do_not_change_the_numbers_of_the_others_between_runs(kind):
    def numbers(cpus):
        w = Work([0, 1], seed=1, cpus=cpus)
        w.job(lambda work: Multiple(kind([None if i % 3 else i for i in range(200)])))
        w.job(lambda work: (work, draw()))
        return sorted(w.run())

    assert numbers(1) == numbers(2)
    assert len({number for _, number in numbers(1)}) == 2 * 67


def test_each_stage_draws_other_numbers_for_the_same_item():
    w = Work(range(20), seed=1)
    w.job(lambda work: [draw()])
    w.job(lambda drawn: [*drawn, draw()])
    w.job(lambda drawn: [*drawn, draw()])
    numbers = [number for row in w.run() for number in row]
    assert len(set(numbers)) == 60


def test_one_function_at_two_stages_draws_different_numbers():
    def again(drawn):
        return [*drawn, draw()]

    w = Work([[]], seed=1)
    w.job(again)
    w.job(again)
    ((first, second),) = w.run()
    assert first != second


def test_a_call_that_draws_twice_gets_two_numbers():
    w = Work([0], seed=1)
    w.job(lambda work: (draw(), draw()))
    ((first, second),) = w.run()
    assert first != second


def test_what_init_adds_draws_other_numbers_than_the_source():
    w = Work([1, 2, 3], seed=1)
    w.init(lambda: Multiple([4, 5, 6]))
    w.job(lambda work: draw())
    assert len(set(w.run())) == 6


def test_the_rounds_of_a_frame_draw_different_numbers():
    w = Work([1], seed=1)

    @w.frame(store=list)
    def loop(store, first):
        store.append(draw())
        if len(store) <= 10:
            return first

    w.job(lambda work: draw())
    w.frameEnd(lambda store, number: store.append(number))
    (numbers,) = w.run()
    assert len(set(numbers)) == len(numbers)


def test_what_a_frame_end_recurs_draws_new_numbers_each_time():
    w = Work([20], seed=1)

    @w.frame(store=list)
    def loop(store, first):
        if not store:
            return first

    w.job(lambda left: (left, draw()))

    @w.frameEnd
    def again(store, pair):
        store.append(pair[1])
        return pair[0] - 1 or None

    (numbers,) = w.run()
    assert len(set(numbers)) == len(numbers) == 20


def test_what_a_reduce_recurs_draws_new_numbers_each_time():
    w = Work([20, 20], seed=1)
    w.job(lambda left: (left, draw()))

    @w.reduce(store=list)
    def fold(store, works, others):
        gather(store, [number for _, number in works], others)
        return Multiple(left - 1 for left, _ in works if left > 1)

    (numbers,) = w.run()
    assert len(set(numbers)) == len(numbers) == 40


def test_a_reduction_is_the_same_with_a_seed():
    w = Work(range(100), seed=1, cpus=2)
    reduce_to_sum(w)
    assert w.run() == [4950]


def test_the_death_of_a_process_does_not_change_the_numbers(once):
    def numbers(dies):
        w = Work(range(60), seed=5, cpus=2)

        @w.job
        def work_or_die(work):
            if dies and work == 30 and once():
                die()
            return work, draw()

        return sorted(w.run())

    assert numbers(False) == numbers(True)
    assert once.happened()


def test_a_call_that_is_made_again_draws_the_same_numbers(once):
    def numbers(fails):
        w = Work(range(20), seed=5, retries=1)

        @w.job
        def fail_once(work):
            number = draw()
            if fails and work == 10 and once():
                raise ValueError
            return work, number

        return sorted(w.run())

    assert numbers(False) == numbers(True)


def test_what_is_skipped_does_not_change_the_numbers_of_the_others():
    w = Work(range(40), seed=5, onError="skip", cpus=2)

    @w.job
    def fail(work):
        if work % 4 == 0:
            raise ValueError
        return work, draw()

    assert sorted(w.run()) == [pair for pair in draws_of_jobs(seed=5) if pair[0] % 4]
    assert sorted(failure.item for failure in w.failures) == list(range(0, 40, 4))


def test_map_draws_the_same_numbers_on_any_number_of_processes():
    def numbers(cpus):
        return job_stream.map(lambda work: draw(), range(100), seed=9, cpus=cpus)

    assert numbers(1) == numbers(2) == numbers(3)
    assert len(set(numbers(1))) == 100


@settings(max_examples=8, derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 2**32), st.sampled_from([2, 3]))
def test_numbers_belong_to_positions_in_the_source(source, seed, cpus):
    assert draws_of_jobs(source, seed=seed, cpus=1) == draws_of_jobs(source, seed=seed, cpus=cpus)


def test_what_a_repeated_call_returns_arrives_as_it_is(once):
    w = Work([1], seed=1, retries=1)

    @w.job
    def fail_once(work):
        if once():
            raise ValueError
        return Multiple([work, work + 1])

    assert sorted(w.run()) == [1, 2]


def draws_of_keyed_frames(source, **keywords):
    w = Work(source, seed=4, **keywords)

    @w.frame(store=lambda: Object(drawn=[]), emit=lambda store: store.drawn, key=lambda number: number)
    def loop(store, number):
        if not store.drawn:
            store.drawn += [number, draw()]
            return number

    w.job(lambda number: draw())

    @w.frameEnd
    def keep(store, drawn):
        store.drawn.append(drawn)

    w.job(lambda drawn: (*drawn, draw()))
    return sorted(w.run())


def test_a_frame_with_a_key_draws_the_same_numbers_wherever_its_item_stands():
    assert draws_of_keyed_frames([5, 6, 7]) == draws_of_keyed_frames([7, 5, 6], cpus=3)


def test_frames_with_different_keys_draw_different_numbers():
    drawn = [number for row in draws_of_keyed_frames(range(-20, 20)) for number in row[1:]]
    assert len(set(drawn)) == 3 * 40


def test_the_key_of_a_frame_gets_the_arguments_of_an_args():
    w = Work([Args(1, b=2)], seed=1)
    w.frame(lambda store, a, b: None, key=lambda a, b: a + b, emit=lambda store: 3)
    w.frameEnd(lambda store, item: None)
    assert w.run() == [3]


@pytest.mark.parametrize("key", [1.5, "a", None, True])
def test_a_key_that_is_no_whole_number_is_refused(key):
    w = Work([1], seed=1)
    w.frame(lambda store, item: None, key=lambda item: key)
    w.frameEnd(lambda store, item: None)
    with pytest.raises(PlanError, match="key must give a whole number, not"):
        w.run()


def test_seed_and_key_may_be_numbers_of_numpy():
    def drawn(number):
        w = Work([3], seed=number(1), cpus=number(1))
        w.frame(lambda store, item: None, store=lambda: draw(), key=number)
        w.frameEnd(lambda store, item: None)
        return w.run()

    assert drawn(np.int64) == drawn(int)


def test_a_key_must_be_a_function():
    with pytest.raises(PlanError, match="key must be a function, not int: 3"):
        Work([1], seed=1).frame(lambda store, item: None, key=3)


def test_only_frames_take_a_key():
    with pytest.raises(PlanError, match="does not know the keyword 'key'"):
        Work([1], seed=1).job(lambda item: None, key=lambda item: 3)
