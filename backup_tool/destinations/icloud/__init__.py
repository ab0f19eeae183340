"""iCloud Drive: the one door to pyicloud.

```
destination  the contract: named bytes in a folder of iCloud Drive
drive        Apple's calls: list, make folders, send, commit, fetch, trash; every status that an answer holds is read
account      one signed-in session: asks Apple, signs in again without a person where that is possible
login        the sign-in by a person: password, second factor
session      what is kept of a sign-in between runs
wire         connections with an end: timeouts, deadlines, closing from outside
faults       what Apple's answers mean, in our errors
```

Apple documents none of these calls. They are those of the web page icloud.com, as pyicloud and rclone speak them; what no real account has
shown yet is listed in docs/how-to/icloud.md.
"""
