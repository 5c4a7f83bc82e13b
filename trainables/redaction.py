"""Secrets taken out of what a trial writes of its failure, and of whatever is shown or leaves the sweep directory.

That is messages, logs, tracebacks, command lines, URIs and configs. Texts and class names are the user's data and are
never passed through here.
"""

from __future__ import annotations

import re
from typing import Any

_MASK = "***"
# Parts of a URL, a header or a message that may be a secret stop here; longer ones would cost quadratic time to find.
_LONGEST = 500
_NAMES = (
    r"(?:password|passwd|passphrase|pwd|secret|token|credentials?|signature"
    r"|(?:api|access|account|secret|private)[_-]?key(?:[_-]?id)?)"
)
# A tokenizer's special tokens are no secrets, and messages about them must stay readable.
_SPECIAL = r"(?!(?:[\w.-]*[_-])?(?:pad|cls|sep|unk|mask|bos|eos|image|special)[_-]token\b)"
# A word's beginning, also right after the code that colours it in a log, and after a line break in a repr or in JSON.
_START = r"(?:\b|(?<=\[\dm)|(?<=\[\d\dm)|(?<=\\[nrt]))"
# A quotation mark, also as a repr or JSON escapes it.
_QUOTE = r"(?:\\*[\"'])"
_PARTS = (
    # Tokens that say what they are by their first letters.
    _START + r"(?:hf|api_org)_[A-Za-z0-9]{8,}",
    _START + r"(?:AKIA|ASIA)[A-Z0-9]{12,}",
    _START + r"(?:gh[pousr]|github_pat)_\w{16,}",
    _START + r"gl(?:pat|dt|rt|ptt|cbt|agent|soat|ft|imt)-[\w.-]{16,}",
    _START + r"(?:xox[abeoprs]|xapp)-[\w-]{8,}|(?<=hooks\.slack\.com/services/)[\w/]+",
    _START + r"(?:AIza[\w-]{30,}|ya29\.[\w.-]+)",
    _START + r"(?:sk-(?=[\w-]*\d)[\w-]{20,}|[rs]k_(?:live|test)_\w{10,})",
    _START + r"(?:dapi[0-9a-f]{32}\b|npm_[A-Za-z0-9]{30,}|pypi-AgE[\w-]{16,})",
    _START + r"eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    # What stands in front of a host: all up to the last @ before a slash; after a colon, as SQLAlchemy reads it, all up
    # to the first @. A port is no password.
    rf"(?<=://)[^/\s?#]{{1,{_LONGEST}}}(?=@)",
    rf"(?<=://)[^/:\s@]{{0,{_LONGEST}}}:(?!\d{{1,5}}[/?#])[^\s@]{{1,{_LONGEST}}}+(?=@)",
    r"(?<=Bearer )[A-Za-z0-9+/=._~-]{8,}",
    r"(?:(?<=[?&]sig=)|(?<=[?&]key=)|(?<=[?&]code=))[^\s&\"'<>]+",
)
_SECRETS = re.compile("|".join(_PARTS), re.DOTALL)
# Tokens of Hugging Face have 34 letters and digits; what has few is somebody's name for something.
_HARMLESS = re.compile(r"(?:hf|api_org)_[A-Za-z0-9]{8,24}")
# The values of headers, query parameters, environment variables and keyword arguments.
_NAMED = re.compile(
    r"(?i)(?P<name>"
    rf"(?<![\w.-]){_SPECIAL}[\w.-]{{0,80}}{_NAMES}{_QUOTE}?\s?(?:=|(?<=[\"']):)\s?"
    rf"|{_START}password:\s?|{_START}authorization{_QUOTE}?\s?[:=]\s?{_QUOTE}?(?:basic|bearer|token)\s"
    r")(?!(?:none|null|true|false)\b|\*{3}(?:[\s,;&)}\]]|$))(?:\\*\"[^\"]*\"|\\*'[^']*'|[^\s&\"'<>]+)"
)


def redact(text: str) -> str:
    """Text with tokens, keys, signatures and the passwords of URLs replaced by `***`.

    Knows what carries its kind in its first letters (`hf_…`, `AKIA…`, `-----BEGIN PRIVATE KEY-----`) and what is named
    (`password=…`, `Bearer …`, `://user:…@host`); a bare random string cannot be told from a hash and stays.

    >>> redact("postgresql://me:secret@host/db")
    'postgresql://***@host/db'
    >>> redact("GET /?X-Amz-Signature=0f1e2d&page=2")
    'GET /?X-Amz-Signature=***&page=2'
    """
    return _NAMED.sub(rf"\g<name>{_MASK}", _SECRETS.sub(_MASK, text))


def holds_secret(text: str) -> bool:
    """Whether a value that somebody wrote is, or holds, a secret: narrower than `redact`, which may mask too much.

    A user without a password (`postgresql://me@host/db`) is none, nor is a folder that is called `hf_something`.

    >>> holds_secret("postgresql://me:secret@host/db"), holds_secret("postgresql://me@host/db")
    (True, False)
    """
    found = [match for match in _SECRETS.finditer(text) if not _HARMLESS.fullmatch(match[0])]
    users = [match for match in found if text[match.end() :].startswith("@") and ":" not in match[0]]
    return len(found) > len(users) or _NAMED.search(_SECRETS.sub(_MASK, text)) is not None


def redact_all(value: Any) -> Any:
    """A JSON value with every text in it redacted."""
    if isinstance(value, dict):
        return {key: redact_all(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redact_all(item) for item in value]
    return redact(value) if isinstance(value, str) else value
