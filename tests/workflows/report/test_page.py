"""The data beside a figure: nothing in it is run by a spreadsheet."""

from __future__ import annotations

from workflows.report.page import Data


def test_text_that_a_spreadsheet_would_run_is_inert_and_numbers_stay_numbers() -> None:
    text = Data(("class", "gained"), [("=HYPERLINK(1)", -0.5), ("@x", None), ("fine", 1)]).csv()
    assert text == "class,gained\n'=HYPERLINK(1),-0.5\n'@x,\nfine,1\n"
