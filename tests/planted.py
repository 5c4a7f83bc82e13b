"""Twenty secrets as they turn up in messages, and whether a text holds one of them.

They are put together here, so that no scanner takes this file for a leak.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

_RANDOM = "q7Xw2Lk9Zt4Rb8Vn3Ms6Hd1Jf5Gc0Py"


def letters(number: int, length: int = 24) -> str:
    """A random-looking word of its own for each secret."""
    turned = _RANDOM[number:] + _RANDOM[:number]
    return (turned * 3)[:length]


@dataclass(frozen=True)
class Planted:
    """A secret, and the text around it as it turns up in messages."""

    kind: str
    before: str
    secret: str
    after: str = ""

    @property
    def text(self) -> str:
        return f"{self.before}{self.secret}{self.after}"


SECRETS = (
    Planted("Hugging Face", "401 for token ", "hf" + "_" + letters(0, 34)),
    Planted("AWS key id", "the key ", "AKI" + "A" + letters(1).upper()[:16], " is disabled"),
    Planted("AWS secret key", "AWS_SECRET_ACCESS_KEY=", letters(2, 20) + "/+" + letters(3, 18)),
    Planted("GitHub", "fatal: ", "gh" + "p_" + letters(4, 36)),
    Planted("GitHub, fine-grained", "\x1b[31m", "github" + "_pat_" + letters(5, 60), "\x1b[0m"),
    Planted("GitLab", "remote: ", "glp" + "at-" + letters(6, 20)),
    Planted("Slack", "posting with ", "xo" + "xb-1234567890-" + letters(7)),
    Planted("bearer", "{'Authorization': 'Bearer ", letters(8), "'}"),
    Planted("basic", "Authorization: Basic ", letters(9) + "=="),
    Planted("password of a database", "postgresql+psycopg2://me:", letters(10) + "/?#", "@db.example.org:5432/mlflow"),
    Planted("password of a server", "https://me:", "p@" + letters(11), "@mlflow.example.org/api?page=2"),
    Planted("password in a query", "GET https://example.org/x?password=", letters(12), "&page=2"),
    Planted("token in a query", "GET https://example.org/x?access_token=", letters(13), "&page=2"),
    Planted("signed S3 URL", "https://b.s3.example.org/k?X-Amz-Expires=60&X-Amz-Signature=", letters(14)),
    Planted("Azure SAS", "https://a.blob.example.org/c?sv=2024-11-04&sig=", letters(15) + "%3D", "&se=2027"),
    Planted("Google", "the API key ", "AI" + "za" + letters(16, 35)),
    Planted("JWT", "cookie ", "ey" + "JhbGciOiJI." + "ey" + "JzdWIiOiIx" + letters(17) + "." + letters(18)),
    Planted("private key", "-----BEGIN " + "PRIVATE KEY-----\n", letters(19, 60), "\n-----END " + "PRIVATE KEY-----"),
    Planted("environment", "{'MLFLOW_TRACKING_PASSWORD': '", letters(20), "', 'HOME': '/root'}"),
    Planted("keyword argument", "connect(host='h', api_key=\"", letters(21), '", port=1)'),
)


def leaked(text: str) -> list[str]:
    """The kinds of the secrets that stand in a text, also where it is escaped."""
    return [
        planted.kind
        for planted in SECRETS
        if any(form in text for form in (planted.secret, json.dumps(planted.secret)[1:-1], planted.secret[4:20]))
    ]
