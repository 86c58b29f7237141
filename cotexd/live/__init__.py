"""Who is connected, and what each of them has been sent: sockets and memory, no SQL.

`wire` encodes and decodes messages, `session` is one client's life as a pure state machine, `socket` carries it on a
transport, `hub` knows all of them.
"""
