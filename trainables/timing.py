"""What `trainables.probe` measures, as values: reading them takes no torch."""

from __future__ import annotations

from trainables.arguments import Frozen


class Timing(Frozen):
    """Seconds of the parts of a trial over its whole data; `together` trials share what is marked as shared.

    `setup`: tokens opened, model loaded, policy applied (shared). `prefix`: what frozen layers give for all splits, as
    far as this node's cache lacks it, for the first trial that needs it. `epoch`: the optimizer steps of one epoch
    (shared), `longest_step` one of them. `validation` and `test`: one pass of scoring. `commit`: the rest of the end
    of an epoch, with state and checkpoint. `end`: the rest of the end of a trial. `one_text` and `texts`: predicting
    for one text and for 32 at once, in fp32; None where that was not asked for.

    `peak_bytes` is the most that the device held (on a CPU the process; None where unknown), `device_bytes` what it
    has in all. `texts_at_once` is set where a batch did not fit and was run in passes of so many texts. `steps` were
    timed.
    """

    together: int
    setup: float
    prefix: float
    epoch: float
    longest_step: float
    validation: float
    test: float
    commit: float
    end: float
    one_text: float | None
    texts: float | None
    steps: int
    device: str
    peak_bytes: int | None
    device_bytes: int
    texts_at_once: int | None
