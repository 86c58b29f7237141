"""cotex: what a person types.

One file a group of commands; `main` mounts them, `view` draws, `local` opens the data, `client` talks to a server.
"""
