"""What wakes the engine thread."""

import os
import threading

from support import DEADLINE_S

from job_stream.waiting import Wake


def test_a_signal_that_interrupts_a_call_may_wake_too(monkeypatch):
    wake = Wake()
    write, depth = os.eventfd_write, []

    def interrupted(fd, value):
        depth.append(fd)
        if len(depth) == 1:
            wake.set()  # as a signal handler does, wherever it comes
        write(fd, value)

    monkeypatch.setattr(os, "eventfd_write", interrupted)
    thread = threading.Thread(target=wake.set, daemon=True)
    thread.start()
    thread.join(DEADLINE_S / 10)
    assert not thread.is_alive()
    assert os.eventfd_read(wake.fd) == 2
    wake.close()
    wake.set()  # nobody is woken any more, and nothing fails
