"""`keyturn demo`: the main job and an emergency on a bare machine, with real processes and real requests.

    world.py       the directory, the emulated cloud, the daemon and the applications; also for `bench/soak.py`
    children.py    processes that report in lines, and that are never left behind
    dependent.py   the application: a program of its own that signs requests all the time
    story.py       what happens, act by act, and what it says on the terminal
    play.py        the same world to play with, for `--keep`
    order.py       an order to the cloud: rotate now, answer 503
    tied.py        a program between, that ends a child with the demo

Every process is started as an operator would start it; they share nothing but files, sockets and signals.
"""
