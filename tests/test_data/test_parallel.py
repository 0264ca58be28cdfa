"""Worker processes that are killed, that crash, that do not answer: one message, soon, and no process is left."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import re
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from multiprocessing.connection import Connection
from types import SimpleNamespace

import pytest

from kdsr.data import parallel
from kdsr.data.parallel import ordered_map, run_ahead
from kdsr.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='sends signals')


def square(number):
    return number * number


def square_slowly_at_first(number):
    time.sleep(0.2 if number == 0 else 0)
    return number * number


def killed_while_answering(number):
    """Half of the answer is written, then the process is killed, as by the system when the memory is short."""
    if number == 3:
        send = Connection._send

        def send_half(self, content, *args):
            send(self, bytes(content)[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

        Connection._send = send_half
        return bytes(1000)
    return number


def killed_at_work(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def crashed(number):
    if number == 3:
        faulthandler.disable()
        os.kill(os.getpid(), signal.SIGSEGV)
    return number


def exited(number):
    if number == 3:
        os._exit(7)
    return number


def stopped(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGSTOP)
    return number


def refused(number):
    if number == 3:
        raise UserError('image 3 is damaged')
    return number


class LocalError(Exception):
    """Cannot be unpickled: its argument is lost."""

    def __init__(self, first, second):
        super().__init__(f'{first} and {second}')


def refused_in_its_own_words(number):
    raise LocalError('this', 'that')


def fail_to_set_up(number):
    raise UserError(f'process {number} finds no teacher')


def name(number):
    return f'im{number}.png'


def collect(function, **settings):
    """Return the results before the error, and its message."""
    found = []
    with (
        pytest.raises(UserError) as caught,
        contextlib.closing(ordered_map(function, range(12), 2, name_item=name, **settings)) as results,
    ):
        found.extend(results)
    return found, str(caught.value)


def test_results_come_in_the_order_of_the_items():
    assert list(ordered_map(square_slowly_at_first, range(40), 3)) == [n * n for n in range(40)]
    assert list(ordered_map(square, [], 3)) == []
    assert list(ordered_map(square, [5], 3)) == [25]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ('function', 'words'),
    [
        (killed_while_answering, r'was ended by SIGKILL; it worked on im3\.png. Most likely the memory ran out'),
        (killed_at_work, r'was ended by SIGKILL; it worked on im3\.png. Most likely the memory ran out'),
        (crashed, r'was ended by SIGSEGV; it worked on im3\.png. A library crashed'),
        (exited, r'ended with exit status 7; it worked on im3\.png'),
    ],
)
def test_the_end_of_a_process_is_reported_at_once(function, words):
    found, message = collect(function)
    assert found == [0, 1, 2]
    assert re.search(rf'^Worker process [01] \(pid \d+\) {words}', message)
    assert 'What is finished is kept: run the same command again to continue, with fewer workers' in message
    assert not multiprocessing.active_children()


@pytest.mark.timeout(60)
def test_silence_is_bounded():
    found, message = collect(stopped, silence=2.0)
    assert found == [0, 1, 2]
    assert message.startswith('No worker process has answered for 2 seconds. They work on ')
    assert 'im3.png' in message
    assert not multiprocessing.active_children()


@pytest.mark.parametrize('answering', [True, False])
def test_one_long_item_is_no_silence_while_others_are_answered(monkeypatch, answering):
    """It takes 20 looks at the clock; without any answer 5 are too many."""
    monkeypatch.setattr(parallel, '_SLICE', 0.01)
    process, looks = SimpleNamespace(answers=0), []

    class Long(Future):
        def result(self, timeout=None):
            looks.append(timeout)
            process.answers += answering
            if len(looks) == 20:
                return 'done'
            raise NotYetError

    if answering:
        assert parallel._wait_for(Long(), [process], silence=0.05) == 'done'
    else:
        with pytest.raises(parallel._SilentError):
            parallel._wait_for(Long(), [process], silence=0.05)


def test_an_error_of_the_function_comes_at_its_turn_with_the_traceback_of_the_process():
    found, message = collect(refused)
    assert (found, message) == ([0, 1, 2], 'image 3 is damaged')
    with pytest.raises(RuntimeError, match='LocalError: this and that') as caught:
        list(ordered_map(refused_in_its_own_words, range(3), 2))
    assert 'refused_in_its_own_words' in str(caught.value.__cause__)


@pytest.mark.slow
def test_an_error_of_the_setup_reaches_the_caller():
    with pytest.raises(UserError, match='process 0 finds no teacher'):
        list(ordered_map(square, range(3), 1, fail_to_set_up))


def test_leaving_early_ends_the_processes():
    with contextlib.closing(ordered_map(square, range(1000), 2)) as results:
        assert next(results) == 0
        assert multiprocessing.active_children()
    assert not multiprocessing.active_children()


def test_only_some_items_are_begun_ahead():
    begun = []

    def items():
        for number in range(20):
            begun.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = run_ahead(square, items(), pool, 3)
        assert next(results) == 0
        assert begun == [0, 1, 2, 3]
        assert [next(results) for _ in range(2)] == [1, 4]
        assert begun == [0, 1, 2, 3, 4, 5]
        results.close()
    assert list(run_ahead(square, range(4), None, 3)) == [0, 1, 4, 9]
