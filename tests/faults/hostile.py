"""Sixty texts that mean harm where text is taken for something else, and sweeps that hold them everywhere.

Whatever would run sets `window.pwned` or the page's title, opens a dialog, or asks loopback for an image.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.workflows.report import sweeps
from tests.workflows.report.sweeps import Trial
from trainables.directory import SweepDirectory
from trainables.files import read_json, write_json
from workflows.leaderboard import Leaderboard
from workflows.report import content, write_report

_IMAGE = "http://127.0.0.1:9/image"
HTML = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=2</script>",
    "<ScRiPt>document.title='pwned'</sCrIpT>",
    "</title><script>window.pwned=4</script>",
    "</style><script>window.pwned=5</script>",
    "--><script>window.pwned=6</script><!--",
    "]]><script>window.pwned=7</script><![CDATA[",
    "</pre></table><script>window.pwned=8</script>",
    "<img src=x onerror=window.pwned=9>",
    '"><img src=x onerror="window.pwned=10">',
    "'><img src=x onerror='window.pwned=11'>",
    f"<img src='{_IMAGE}12'>",
    "<svg onload=window.pwned=13>",
    "</svg><svg><script>window.pwned=14</script></svg>",
    "<svg><a xlink:href='javascript:window.pwned=15'><text>here</text></a></svg>",
    "<math><mtext></p><img src=x onerror=window.pwned=16></mtext></math>",
    "<body onload=window.pwned=17>",
    "<details open ontoggle=window.pwned=18>",
    "<iframe srcdoc='<script>parent.pwned=19</script>'></iframe>",
    "<iframe src='javascript:parent.pwned=20'></iframe>",
    "<a href='javascript:window.pwned=21'>here</a>",
    "javascript:window.pwned=22//",
    '" autofocus onfocus=window.pwned=23 x="',
    "' onmouseover='window.pwned=24",
    "` onerror=`window.pwned=25`",
    "<base href='http://127.0.0.1:9/'>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/27'>",
    "<form action='http://127.0.0.1:9/28'><input type=submit autofocus></form>",
    "&lt;script&gt;window.pwned=29&lt;/script&gt;",
    "&#60;img src=x onerror=window.pwned=30&#62;",
    "\\u003cscript\\u003ewindow.pwned=31\\u003c/script\\u003e",
    "<script>alert(32)</script>",
    "<\0script>window.pwned=33</script>",
)
STYLES = (
    f"<style>body{{background:url({_IMAGE}34)}}</style>",
    f"<link rel=stylesheet href='{_IMAGE}35'>",
    f'" style="background:url({_IMAGE}36)',
    "}*{display:none}/*",
)
TEMPLATES = (
    "{{7*7}}",
    "{{ config.__class__.__init__.__globals__ }}",
    "{% for c in [].__class__.__base__.__subclasses__() %}{% endfor %}",
    "${7*7}",
    "#{7*7}",
    "{{constructor.constructor('window.pwned=43')()}}",
    "%s%n%(name)s{0}{0.__class__}",
)
FORMULAS = (
    "=1+1",
    "=cmd|' /C calc'!A0",
    '+HYPERLINK("http://127.0.0.1:9/47")',
    "-2+3",
    "@SUM(1)",
    "\t=1+50",
    "\r=1+51",
    'said\r=1+52,"',
    " ＝1+53",
)
TERMINAL = (
    "\x1b[31mred\x1b[2J\x1b[H",
    "\x1b]0;pwned\x07",
    "\x1b]8;;http://127.0.0.1:9/56\x1b\\here\x1b]8;;\x1b\\",
    "\x9b31m\x08\x08\x7f",
    "\u202eevil\u2066 txt.exe",
    "[bold]b[/bold][link=http://127.0.0.1:9/59]l[/link][/nothing]\\",
)
PATHS = ("../../../../etc/" + "x" * 5000,)
PAYLOADS = HTML + STYLES + TEMPLATES + FORMULAS + TERMINAL + PATHS
SHARES = 3


def make(root: Path, share: int) -> tuple[SweepDirectory, tuple[str, ...]]:
    """A reported sweep of every third payload, each as test text, class, model and the message of a failure."""
    payloads = PAYLOADS[share::SHARES]
    trials = [
        Trial(model=payload, own_id=f"trial{index:02d}", status="FAILED" if index else "DONE", message=payload)
        for index, payload in enumerate([payloads[-1], *payloads])
    ]
    config = {"errors": {"count": sweeps.TEXTS, "include_text": "full"}}
    made = sweeps.make(root, labels=payloads, texts=payloads, trials=trials, config=config)
    shutil.copytree(root.parent / "data", made.cache.data("f" * 64))
    manifest = read_json(made.manifest)
    manifest["data"] |= {"path": payloads[0], "notes": list(payloads)}
    write_json(made.manifest, manifest | {"name": payloads[0]})
    found = content.read(made)
    Leaderboard(found.metric, found.rows, found.champion.run_id if found.champion else None).write(made)
    write_report(made)
    return made, payloads
