"""What the appliance can do: one function a verb, in terms of values.

An operation takes a transaction and plain values, and returns frozen values; it raises what `errors` lists. It knows
nothing of HTTP, of sockets or of the terminal, so all of them have the same rules. It never waits for a network.
"""
