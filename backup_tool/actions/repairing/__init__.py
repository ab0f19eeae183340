"""Mending a repository at one place.

```
repair   the job: looks, says what it will do, does it in an order in which nothing is lost
plan     what is wrong, and what is to be done about each thing
donors   other places that hold the same repository, and what they can give
rewrite  snapshots whose folders or catalogs are lost, made again
unnamed  notes to which no snapshot leads any more
```
"""
