"""Readable copies for people: notes as files in a folder, and as drafts of an email. What leaves here is not encrypted any more."""
