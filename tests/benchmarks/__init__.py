"""How fast, and in how much memory: paired with restic on the same corpus, in the same run. Not part of the tests: `make bench`."""
