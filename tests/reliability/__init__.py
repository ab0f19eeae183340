"""Nothing is lost, whatever happens: kills, rot, full disks, hostile archives; and restic as the second program that agrees."""
