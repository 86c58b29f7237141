"""cotexd: the CoTeX backend that a team hosts itself.

The map of the house, from the ground up. Each floor knows only those below it:

- `errors`      the catalogue of refusals
- `domain`      pure: signed bytes → a delivery → an event, its summary and its frame; tokens; sealed secrets
- `store`       the one room that knows which database this is: group commit, read pool, migrations
- `operations`  what the appliance can do, one verb each; HTTP and the command line call the same ones
- `live`        who is connected, and one socket's life; memory only
- `web`         HTTP in, HTTP out; `schedule` is its sibling that is woken by the clock
- `appliance`   opens all of it in order, closes it in reverse
- `config`      read at the very top, handed down as values

The event's way: `web.github` → `domain.github` → `operations.events.accept` → `store.writer` → `live.hub` →
`live.session` → `live.socket`. The command's way: `cotex.*` → `store.run(operation)`. Both are drawn in
docs/architecture.md.
"""

__version__ = "0.1.0"
