"""What must not be in any log line: secrets by the name of their field, and by what they look like anywhere else."""

import re
from collections.abc import Mapping

HIDDEN = "***"
MAX_DEPTH = 6
MAX_TEXT = 8000
"""characters of one value"""

MARGIN = 1000
"""characters beyond MAX_TEXT that are looked at, so that no secret is cut in two before it is seen"""

_NAMES = re.compile(
    r"(?i)(^|[_.-])(token|secret|signature|password|passwd|authorization|cookie|apikey|api_key|payload|body|jwt"
    r"|private|sealed|credential)s?([_-]?256|[_-]key)?$"
)
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# Each alternative begins with something fixed, so that a long line is passed over quickly.
_LOOKS = re.compile(
    r"eyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?"  # a JWT
    r"|(?i:sha(?:256|1)=)[0-9a-fA-F]+"  # a webhook's signature
    r"|(?:sk|rk|pk)_(?:live|test)_\w+|whsec_[\w+/=]+"  # Stripe
    r"|gh[pousr]_\w{10,}|github_pat_\w+"  # GitHub
    r"|\$argon2\S+"
    r"|(?i:(?<=bearer ))[\w.~+/=-]+"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"  # user:password in a URL
    r"|(?i:(?:password|passwd|token|secret|api_?key|authorization)[\"']?\s{0,3}[=:]\s{0,3}(?!\s))"
    r"(?:\"[^\"]*\"?|'[^']*'?|[^\s&;,'\"]+)"
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
            redact_text(str(key)): HIDDEN if is_secret(str(key)) else redact(each, depth + 1)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(each, depth + 1) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact_text(str(value))


def redact_text(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return _LOOKS.sub(HIDDEN, text)
    seen = _LOOKS.sub(HIDDEN, text[: MAX_TEXT + MARGIN])
    whole = seen if len(text) <= MAX_TEXT + MARGIN else seen[:-MARGIN]
    return whole[:MAX_TEXT] + "…"


def is_secret(name: str) -> bool:
    return _NAMES.search(_CAPITAL.sub("_", name)) is not None
