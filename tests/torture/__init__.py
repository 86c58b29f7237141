"""The checker: a run that tries to break the promise, and finds out whether it was.

plan.py decides by a seed who exists and what is sent. world.py makes it in a database. server.py runs `cotexd` as a
process, with the switch of faulty.py. sender.py is GitHub, clients.py are the clients, chaos.py does the harm; run.py
lets them loose and waits for the end. What happened is in history.py, and check.py judges it: pure functions, which
share no code with the product, and which tests/test_torture.py shows each fault that they are there to find.
"""
