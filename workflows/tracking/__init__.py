"""MLflow as the mirror of a sweep directory. `writer.Writer` is the way in; mlflow is imported nowhere else."""
