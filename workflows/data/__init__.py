"""From labelled text, wherever it lies, to splits that trials train on. `dataset.prepare` is the way in."""
