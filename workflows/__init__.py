"""Driver side: config, plan, data, cluster, dispatch, tracking, prediction. Imports `trainables`, never `jobs`."""
