"""One small file for each verb: flags in, the rooms called, results shown."""
