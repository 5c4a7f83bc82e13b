"""What is wrong with labelled text before anything is trained on it: one function and one table line per finding."""
