"""A bucket of an object store that speaks S3.

```
destination  the contract: named bytes in a bucket
signing      who asks: Signature Version 4
```
"""
