"""Several places that hold the same archive.

```
delivery  storing: here first, carried to every place while work goes on; which place is the view that is listed
courier   brings objects to one place, in the order that keeps it sound
spool     objects that wait on this machine until every place has them
reading   giving back: from the first place that can, and saying so
```
"""
