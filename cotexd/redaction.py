"""What must not be in any log line: secrets by the name of their field, and by what they look like anywhere else."""

import re
from collections.abc import Mapping

HIDDEN = "***"
MAX_DEPTH = 6
MAX_TEXT = 8000
"""characters of one value"""

_NAMES = re.compile(
    r"(?i)(^|[_.-])(token|secret|signature|password|passwd|authorization|cookie|apikey|api_key|payload|body|jwt"
    r"|refresh_token|access_token|webhook_secret|private|sealed|credentials?)s?$"
)
# Each alternative begins with something fixed, so that a long line is passed over quickly.
_LOOKS = re.compile(
    r"eyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?"  # a JWT
    r"|(?i:sha(?:256|1)=)[0-9a-fA-F]+"  # a webhook's signature
    r"|(?:sk|rk|pk)_(?:live|test)_\w+|whsec_[\w+/=]+"  # Stripe
    r"|gh[pousr]_\w{10,}|github_pat_\w+"  # GitHub
    r"|\$argon2\S+"
    r"|(?i:(?<=bearer ))[\w.~+/=-]+"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"  # user:password in a URL
    r"|(?i:(?<=password=)|(?<=token=)|(?<=secret=)|(?<=apikey=))[^\s&;,'\"]+"
    r"|\b[0-9a-f]{64}\b"  # a webhook secret of our making
)


def redact(value: object, depth: int = 0) -> object:
    """`value` without secrets, whatever it is made of."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if is_secret(str(key)) else redact(each, depth + 1) for key, each in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(each, depth + 1) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact_text(str(value))


def redact_text(text: str) -> str:
    shortened = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
    return _LOOKS.sub(HIDDEN, shortened)


def is_secret(name: str) -> bool:
    return _NAMES.search(name) is not None
